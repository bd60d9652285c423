//! Files that are made to cost time, memory or stack.

use super::*;

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let deep = |open: &str, close: &str, count: usize| {
        format!("variable \"x\" {{\n default = {}1{}\n}}", open.repeat(count), close.repeat(count))
    };
    for (open, close) in
        [("[", "]"), ("(", ")"), ("{a=", "}"), ("\"${", "}\""), ("f(", ")"), ("-", ""), ("!", "")]
    {
        for count in [50, 10_000] {
            let text = deep(open, close, count);
            let docs = docs(&[("a.tf", &text), ("b.tf", "variable \"b\" {}")]);
            assert!(docs.folders[0].inputs.iter().any(|input| input.name == "b"), "{open} {count}");
        }
    }
    let blocks = format!("{}{}", "a {\n".repeat(20_000), "}\n".repeat(20_000));
    let chain = format!("variable \"x\" {{ default = {}1 }}", "1 + ".repeat(50_000));
    let json = "[".repeat(100_000);
    let docs =
        docs(&[("a.tf", &blocks), ("b.tf", &chain), ("c.tf.json", &json), ("d.tf", "variable \"d\" {}")]);
    assert_eq!((docs.folders[0].unreadable.len(), docs.folders[0].inputs.len()), (3, 2));
}

#[test]
fn what_is_too_large_or_too_much_is_left_out_and_said() {
    let large = format!("# {}\nvariable \"large\" {{}}", "x".repeat(1 << 20));
    let many: Vec<String> = (0..3000).map(|n| format!("variable \"v{n:04}\" {{}}")).collect();
    let many = many.join("\n");
    let found = docs(&[("large.tf", &large), ("many.tf", &many)]);
    let root = found.folder("").unwrap();
    assert_eq!(root.unreadable, [Unreadable { file: "large.tf".into(), why: "too large to show".into() }]);
    assert_eq!((root.inputs.len(), found.is_cut), (2000, true));

    let paths: Vec<String> = (0..300).map(|n| format!("modules/m{n:03}/main.tf")).collect();
    let files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), "variable \"x\" {}")).collect();
    let found = docs(&files);
    assert_eq!((found.folders.len(), found.is_cut), (200, true));
}

#[test]
fn a_comparison_that_is_too_long_is_cut() {
    let docs = |text: &str| {
        let input = |number: usize| Input {
            name: format!("v{number}"),
            default: Some(text.repeat(1000)),
            ..Input::default()
        };
        let folder = |number: usize| Folder {
            path: format!("modules/m{number:02}"),
            inputs: (0..40).map(input).collect(),
            ..Folder::default()
        };
        Docs { folders: (0..20).map(folder).collect(), is_cut: false }
    };
    let comparison = compare_unpacked(&docs("&"), &docs("\""));
    let changes: usize = comparison.modules.iter().map(|module| module.changes.len()).sum();
    assert!(comparison.is_cut && (100..400).contains(&changes), "{changes}");
    assert!(!compare_unpacked(&docs("a"), &docs("b")).is_cut);
}

#[test]
fn a_readme_that_is_too_long_is_cut() {
    let links = Links { base: String::new() };
    for (begin, character, is_cut) in
        [("# A\n", "x", true), ("\u{feff}# A\n", "é", true), ("# A\n", "日", true), ("# A\n", "", false)]
    {
        let readme = format!("{begin}{}", character.repeat(1 << 20));
        let found = docs(&[("main.tf", ""), ("README.md", &readme)]);
        let root = found.folder("").unwrap();
        let text = root.readme.as_deref().unwrap();
        assert!(text.len() < 300 << 10 && root.unreadable.is_empty() && !found.is_cut, "{character}");
        let html = to_html(text, &links, "");
        assert!(html.contains(">A</h3>") && !html.contains('\u{fffd}'), "{character}");
        assert_eq!(html.contains("longer than 256 KiB"), is_cut, "{character}");
    }
}

#[test]
fn it_ends_at_the_deadline() {
    let late = read_in(&[("main.tf", "")], ArchiveFormat::Zip, Duration::ZERO);
    assert!(matches!(late, Err(NoDocs::TooSlow)), "{late:?}");
}

#[test]
fn the_time_for_a_file_grows_with_its_size_only() {
    let kinds = [
        ("many blocks", "variable \"x\" {}\n"),
        ("broken blocks", "variable \"x\" {\n"),
        ("broken heredocs", "locals {\n a = <<E\n x\nE\n"),
        ("open strings", "a = \"${\n"),
        ("open heredocs", "a = <<E\n"),
        ("open brackets", "a = [[[[\n"),
        ("comments", "/* "),
        ("long chains", "a = b.c.d.e.f\n"),
        ("templates", "a = \"%{if a}\n"),
        ("unterminated blocks", "a \"b\" {"),
        ("dollars", "a = \"$$$$$$\n"),
        ("refused values", "variable \"x\" { default = { a = 1, a = 2 } }\n"),
        ("refused blocks of one piece", "  a { b = <<E }\n"),
        ("heredocs without an end", "<<E<<E\n"),
        ("braces in a line", "a }<"),
    ];
    for (kind, text) in kinds {
        let time = |bytes: usize| {
            let source = text.repeat(bytes / text.len());
            let once = |()| {
                let start = Instant::now();
                let _ = native::read(&source, &mut Folder::default());
                start.elapsed()
            };
            // The shortest of three, since other processes can only make it longer.
            [(); 3].map(once).into_iter().min().unwrap_or_default()
        };
        let (small, large) = (time(64 << 10), time(512 << 10));
        // Eight times the size: quadratic time would be 64 times as long.
        assert!(large < small * 32 + Duration::from_millis(200), "{kind}: {small:?}, then {large:?}");
    }
}
