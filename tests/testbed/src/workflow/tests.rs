use super::*;

fn run(steps: &str) -> Result<JobOutcome> {
    let workflow = format!("jobs:\n  one:\n    steps:\n{steps}");
    Runner::new()?.skipping(&["Cloud"]).run(&workflow, None, &json!({"tag": "v1"}))
}

#[test]
fn a_failed_step_skips_those_after_it_except_the_ones_that_want_failures() {
    let steps = "      - run: echo ${{ github.event.tag }}; exit 3\n      - run: echo skipped\n\
        \x20     - if: failure()\n        run: echo seen\n      - name: Cloud\n        uses: other/cloud@v1\n";
    let outcome = run(steps).expect("it runs");
    assert!(!outcome.success);
    assert_eq!(outcome.log, "v1\nseen\n");
}

#[test]
fn steps_set_variables_for_later_ones_and_mask_secrets() {
    let steps = "      - run: echo before-hush; echo ::add-mask::hush; echo A=hush >>$GITHUB_ENV; echo $A\n\
        \x20     - run: echo is $A $B\n        env: {B: own}\n";
    let outcome = run(steps).expect("it runs");
    assert_eq!(outcome.log, "before-hush\n\nis *** own\n");
    assert_eq!(outcome.env, [("A".to_owned(), "hush".to_owned())]);
}

#[test]
fn what_the_runner_does_not_support_is_an_error() {
    for step in [
        "- uses: other/action@v1",
        "- run: echo ${{ toJSON(github) }}",
        "- run: echo ${{ github",
        "- if: github.event.tag\n        run: echo 1",
        "- shell: pwsh\n        run: echo 1",
    ] {
        assert!(run(&format!("      {step}\n")).is_err(), "{step}");
    }
}
