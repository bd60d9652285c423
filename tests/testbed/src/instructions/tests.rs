use super::*;

fn parts(found: Result<Vec<Found>>) -> Vec<Part> {
    found.unwrap().into_iter().map(|found| found.part).collect()
}

#[test]
fn a_page_gives_its_manifests_commands_and_steps_in_their_order() {
    let page = "A title: with words\n\nSome prose:\n\napiVersion: v1\nkind: Secret\n\n# A comment\nkubectl get a \\\n  -n b\n\n\
        name: Publish\n\non:\n  push:\n\njobs:\n  one:\n    steps:\n      - uses: actions/checkout@v4\n      - run: echo 1\n\n\
        Then this.\n\n- name: Two\n  run: |\n    echo 2\n\nThe end.";
    let expected = [
        Part::Manifests("apiVersion: v1\nkind: Secret".into()),
        Part::Command("kubectl get a  -n b".into()),
        Part::Step("echo 1".into()),
        Part::Step("echo 2\n".into()),
    ];
    assert_eq!(parts(plain("page", page)), expected);
}

#[test]
fn what_cannot_be_run_is_an_error_and_not_left_out() {
    for page in [
        "helm install opendepot",
        "spec:\n  versions: []",
        "Text.\n    indented",
        "$ kubectl get pods",
        "- item",
        "# kubectl delete namespace default",
        "- name: Step\n  uses: other/action@v1",
        "name: W\non: push\njobs:\n  a:\n    steps:\n      - uses: actions/checkout@v4",
    ] {
        assert!(plain("page", page).is_err(), "{page}");
    }
    for page in ["```sh\nrm -rf /\n```", "```console\n$ helm install x\n```"] {
        assert!(markdown("page", page, "").is_err(), "{page}");
    }
    assert!(yaml_file("file", "# helm install x\nkind: Module").is_err());
}

#[test]
fn markdown_and_files_give_what_is_marked_as_code() {
    let page = "Say `kubectl get` or `kubectl get pods -A`, not `helm`.\n```console\n$ cargo test # words\n$ kubectl a \\\n  b\nout\n```\n\
        <!-- known -->\n```console\n$ anything\n```\n```yaml\nkind: Module\n```\n";
    let expected = [
        Part::Verb("kubectl get".into()),
        Part::Command("kubectl get pods -A".into()),
        Part::Command("kubectl a  b".into()),
        Part::Manifests("kind: Module".into()),
    ];
    assert_eq!(parts(markdown("page", page, "<!-- known -->")), expected);
    let file = "# Words.\n#   opendepot run --a b\nkind: A\n---\nkind: B\n";
    let expected = [Part::Flags(vec!["--a".into(), "b".into()]), Part::Manifests(file.into())];
    assert_eq!(parts(yaml_file("file", file)), expected);
    let kinds: Vec<Value> = documents("file", file).unwrap().iter().map(|d| d["kind"].clone()).collect();
    assert_eq!(kinds, ["A", "B"]);
}
