//! READMEs as they are shown.

use super::*;

fn links() -> Links {
    Links { base: "https://github.com/acme/eks/blob/c0ffee".into() }
}

fn html(markdown: &str) -> String {
    to_html(markdown, &links(), "modules/karpenter")
}

#[test]
fn what_terraform_docs_writes_is_kept() {
    let markdown = "# EKS\n\n| Name | Type |\n|---|---|\n| <a name=\"input_tags\"></a> [tags](#input\\_tags) | <pre>map(<br/>string)</pre> |\n\n<details><summary>More</summary>x</details>\n";
    let html = html(markdown);
    for expected in [
        "<h3 id=\"user-eks\">EKS</h3>",
        "<a name=\"user-input_tags\"",
        "href=\"#user-input_tags\"",
        "<pre>map(<br>string)</pre>",
        "<details><summary>More</summary>",
        "<table>",
    ] {
        assert!(html.contains(expected), "{expected} is not in {html}");
    }
}

#[test]
fn links_lead_to_the_repository_at_the_commit_and_images_are_links() {
    let base = "https://github.com/acme/eks/blob/c0ffee";
    for (markdown, expected) in [
        ("[a](main.tf)", format!("href=\"{base}/modules/karpenter/main.tf\"")),
        ("[a](../../docs/x.md#y)", format!("href=\"{base}/docs/x.md#y\"")),
        ("[a](../../../../releases)", "href=\"https://github.com/acme/eks/releases\"".into()),
        ("[a](../../../../../vpc#x)", "href=\"https://github.com/acme/vpc#x\"".into()),
        ("[a](../../../../../../../../x)", "href=\"https://github.com/x\"".into()),
        ("[a](/../../wiki)", "href=\"https://github.com/acme/eks/wiki\"".into()),
        ("[a](/LICENSE)", format!("href=\"{base}/LICENSE\"")),
        ("[a](https://b/c)", "href=\"https://b/c\"".into()),
        ("[a](mailto:x@y.z)", "href=\"mailto:x@y.z\"".into()),
        ("![diagram](https://i.example/x.png)", "href=\"https://i.example/x.png\"".into()),
        ("[![badge](https://i.example/b.svg)](https://ci)", "href=\"https://ci\"".into()),
        (
            "<p align=center><IMG width=9 src=https://i.example/y.png alt='a y'></p>",
            "href=\"https://i.example/y.png\"".into(),
        ),
        ("a <img src=\"docs/z.png\"> b", format!("href=\"{base}/modules/karpenter/docs/z.png\"")),
    ] {
        let html = html(markdown);
        assert!(html.contains(&expected), "{markdown}: {html}");
        assert!(!html.contains("<img") && !html.contains("src="), "{html}");
        assert_eq!(html.matches("<a ").count(), 1, "{html}");
    }
}

#[test]
fn a_tag_with_slashes_is_one_part_of_an_address() {
    let links = Links { base: "https://github.com/acme/eks/blob/refs/tags/eks/v1".into() };
    for (link, expected) in [
        ("x.md", "https://github.com/acme/eks/blob/refs/tags/eks/v1/x.md"),
        ("../../issues?q=a", "https://github.com/acme/eks/issues?q=a"),
    ] {
        assert_eq!(links.resolve(link, "").as_deref(), Some(expected), "{link}");
    }
}

#[test]
fn images_of_raw_html_are_links_with_a_text_and_never_within_a_link() {
    let (block, inline) = (
        "<p align=\"center\">\n  <img\n    alt=\"z\"\n    SRC = \"https://x/y.png\"\n  >\n</p>",
        "a <img\tsrc='https://x/y.png' alt=z> b",
    );
    for markdown in [block, inline, "<!-- <a href=x> --><img src=https://x/y.png alt=\"a > z\">"] {
        let html = html(markdown);
        assert!(html.contains("<a href=\"https://x/y.png\"") && html.contains("z</a>"), "{markdown}: {html}");
        assert!(!html.contains("src") && !html.contains("alt"), "{markdown}: {html}");
    }
    let badge = "<a href=\"https://ci\"><img src=\"https://x/b.svg\" alt=\"b\"></a>";
    let badges = format!("{badge} then {badge}");
    for (markdown, text) in [
        (badge, "b"),
        (badges.as_str(), "b"),
        ("<a href=\"https://ci\">\n  <img src=\"https://x/b.svg\">\n</a>", "image"),
        ("text <a href=\"https://ci\">![b](https://x/b.svg)</a>", "b"),
        ("[<img src=https://x/b.svg alt=b>](https://ci)", "b"),
        ("[![](https://x/b.svg)](https://ci)", "image"),
    ] {
        let html = html(markdown);
        assert!(!html.contains("b.svg") && html.contains("href=\"https://ci\""), "{markdown}: {html}");
        assert_eq!(html.matches("<a ").count(), html.matches("</a>").count(), "{html}");
        assert!(html.split("</a>").next().unwrap().contains(text), "{markdown}: {html}");
    }
    assert!(html("![](https://x/y.png)").contains(">image</a>"));
    // An anchor is no link: an image behind it is one.
    assert!(html("<a name=\"x\"><img src=https://x/y.png>").contains("href=\"https://x/y.png\""));
}

#[test]
fn long_raw_html_stays_html() {
    let rows = "<tr><td>a<td>b</tr>".repeat(500);
    let html = html(&format!("<table>{rows}</table>\n\n{}", "<p>one\n\n".repeat(200)));
    assert_eq!((html.matches("<tr>").count(), html.matches("&lt;").count()), (500, 0), "{html}");
}

#[test]
fn headings_have_the_ids_that_github_gives() {
    let html = html("## Usage & `more`\n## Usage & `more`\n[x](#usage--more)");
    assert!(html.contains("id=\"user-usage--more\"") && html.contains("id=\"user-usage--more-1\""), "{html}");
    assert!(html.contains("href=\"#user-usage--more\""), "{html}");
    let html = to_html("## User data\n## Data\n## A\n## A\n## A 1\n[x](#user-data)", &links(), "");
    for id in ["user-user-data", "user-data", "user-a", "user-a-1", "user-a-1-1"] {
        assert_eq!(html.matches(&format!("id=\"{id}\"")).count(), 1, "{id}: {html}");
    }
    assert!(html.contains("href=\"#user-user-data\""), "{html}");
}

#[test]
fn ids_of_headings_contain_what_github_keeps() {
    for (heading, id) in [
        ("नमस्ते", "नमस्ते"),
        ("![logo](x.png) EKS", "-eks"),
        ("e\u{301}a", "e\u{301}a"),
        ("x² ½ ① Ⅷ ٣", "x---ⅷ-٣"),
        ("a‿b_c·d", "a‿b_cd"),
        ("1\u{fe0f}\u{20e3} Setup", "1\u{fe0f}\u{20e3}-setup"),
        ("Größe: 10%", "größe-10"),
    ] {
        let html = html(&format!("# {heading}"));
        assert!(html.contains(&format!("id=\"user-{id}\"")), "{heading}: {html}");
    }
}

#[test]
fn addresses_are_links_outside_of_links_and_code() {
    for (markdown, expected) in [
        ("See https://e.example/a_b?x=1&y=2.", &["https://e.example/a_b?x=1&amp;y=2"][..]),
        ("- www.e.example, me@e.example", &["http://www.e.example", "mailto:me@e.example"]),
        ("| a |\n|---|\n| https://e.example/x |", &["https://e.example/x"]),
        ("**https://e.example/x?a=1&amp;b=2**", &["https://e.example/x?a=1&amp;b=2"]),
        ("# https://e.example", &["https://e.example"]),
        ("<https://e.example>", &["https://e.example"]),
        ("[https://e.example](https://f.example)", &["https://f.example"]),
        ("<a href=\"https://f.example\">https://e.example</a>", &["https://f.example"]),
        ("a <a href=\"https://f.example\">b *https://e.example*</a> c", &["https://f.example"]),
        ("a <a name=\"b\"></a> https://e.example", &["https://e.example"]),
        ("![https://e.example](https://f.example/x.png)", &["https://f.example/x.png"]),
        ("`https://e.example`\n\n    https://e.example\n\n```\nhttps://e.example\n```", &[]),
        ("javascript://e.example", &[]),
    ] {
        let html = html(markdown);
        let found: Vec<&str> =
            html.split(" href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(found, expected, "{markdown}: {html}");
    }
}

#[test]
fn columns_of_tables_keep_their_alignment() {
    let html = html("| a | b | c | d |\n|---|:-:|--:|:--|\n| 1 | 2 | 3 | 4 |\n");
    for cell in [
        "h>a</th",
        "h align=\"center\">b</th",
        "d>1</td",
        "d align=\"right\">3</td",
        "d align=\"left\">4</td",
    ] {
        assert!(html.contains(&format!("<t{cell}>")), "{cell}: {html}");
    }
    assert_eq!((html.matches("</th>").count(), html.matches("</td>").count()), (4, 4), "{html}");
}

/// What runs or loads something in a browser, after the page of OWASP on evading filters.
#[test]
fn nothing_runs_and_nothing_is_loaded() {
    for hostile in [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>",
        "<a href=\"javascript:alert(1)\">x</a>",
        "<a href=\"jav&#x09;ascript:alert(1)\">x</a>",
        "<a href=\" &#14; javascript:alert(1)\">x</a>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x)",
        "<iframe src=//evil.example></iframe>",
        "<object data=//evil.example></object>",
        "<form action=//evil.example><input name=a></form>",
        "<style>@import '//evil.example';</style>",
        "<p style=\"background:url(//evil.example)\">x</p>",
        "<link rel=stylesheet href=//evil.example>",
        "<meta http-equiv=refresh content='0;url=//evil.example'>",
        "<base href=//evil.example>",
        "<video src=//evil.example autoplay></video>",
        "<math><mi xlink:href=\"javascript:alert(1)\">x</mi></math>",
        "<a href=x onclick=alert(1) onmouseover=alert(1)>x</a>",
        "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
        "<table background=//evil.example><tr><td>x</table>",
        "<blockquote cite=\"javascript:x\">x</blockquote>",
        "<div id=\"main\" class=\"banner\">x</div>",
        "<code class=\"language-x banner\">x</code>",
        "`<script>`\n\n```\n<script>alert(1)</script>\n```",
    ] {
        let html = html(hostile).to_lowercase();
        for forbidden in [
            "<script",
            "<img",
            "<svg",
            "<iframe",
            "<object",
            "<form",
            "<input",
            "<style",
            "<link",
            "<meta",
            "<base",
            "<video",
            "<math",
            " on",
            "javascript:",
            "data:",
            "vbscript:",
            " style=",
            " src=",
            " class=\"banner",
            " id=\"main\"",
            "background=",
            "cite=",
        ] {
            assert!(!html.contains(forbidden), "{hostile}: {forbidden} is in {html}");
        }
    }
}

/// The HTML parser takes quadratic time for deep trees.
#[test]
fn tags_that_are_found_only_by_the_html_parser_are_text() {
    let many = "<x>".repeat(100);
    for deep in
        [format!("<!-- --!>{many}"), format!("<div>\n<a\u{a0}t=\"{many}\">"), format!("<div \u{a0}{many}")]
    {
        assert!(html(&deep).contains("&lt;x&gt;&lt;x&gt;"), "{}", html(&deep));
    }
}

/// Eight times the size must not take much more than eight times as long.
#[test]
fn the_time_for_a_readme_grows_with_its_size_only() {
    let time = |text: &str, bytes: usize| {
        let readme = text.repeat(bytes / text.len());
        let once = |()| {
            let start = std::time::Instant::now();
            assert!(html(&readme).len() < 64 * LONGEST_README, "{text}");
            start.elapsed()
        };
        // The shortest of two, since other processes can only make it longer.
        [(); 2].map(once).into_iter().min().unwrap_or_default()
    };
    for text in [
        "<b>",
        "<img src=x>",
        "<b></x>",
        "<b><div></b>",
        "<b>\n\n</i>\n\n",
        "<img ",
        "<p>",
        "<table>",
        "<a>",
        "<div>\n\n",
        "<div>\n",
        "[",
        "*_",
        "**a ",
        "> ",
        "![",
        "|",
        "\\",
        "`",
        "<a href=x>",
        "- ",
        "&#",
        "# x\n",
        "[a](",
        "<details>",
        "</b>",
        "<!--",
        "<svg>",
        "| a ",
        "[^1]: ",
        "~~",
        "1. ",
        "www.a_",
        "http://",
        "https://a.b/(",
        "w:@",
        "a@b.c",
        "---\na: b\n",
    ] {
        let is_linear = |()| {
            let (small, large) = (time(text, 4 << 10), time(text, 32 << 10));
            large < small * 24 + std::time::Duration::from_millis(150)
        };
        // On a machine with much other work, a single measurement can be of that work.
        assert!([(); 5].into_iter().any(is_linear), "{text:?}");
    }
}

#[test]
fn a_readme_that_is_not_shown_to_its_end_says_so() {
    let whole = "é\n".repeat(LONGEST_README / 3);
    assert!(!html(&whole).contains("longer than 256 KiB"));
    let longer = whole + "and more of it";
    assert!(html(&longer).ends_with(CUT));
}

#[test]
fn no_word_of_a_readme_is_lost() {
    for (markdown, expected) in [
        ("> [!CAUTION]\n> Do not.", "<p><strong>Caution</strong></p>\n<p>Do not.</p>"),
        ("- [x] one\n- [ ] two", "<li>☑ one</li>\n<li>☐ two</li>"),
        ("\u{feff}# EKS", "<h3 id=\"user-eks\">EKS</h3>"),
        ("<h1 align=\"center\">EKS</h1>", "<h3>EKS</h3>"),
        ("<H2>a</H2>\n<h3>b</h3><h4>c</h4><h6>d</h6>", "<h4>a</h4>\n<h5>b</h5><h6>c</h6><h6>d</h6>"),
        ("role/<Role-Name>", "role/&lt;Role-Name&gt;"),
        ("<p>\nbucket/<path>/<your file>\n</p>", "bucket/&lt;path&gt;/&lt;your file&gt;"),
        ("<tabs><tab-item label=\"x\">text</tab-item>", "&lt;tabs&gt;text"),
        ("a <noscript>b</noscript>", "a &lt;noscript&gt;b"),
        ("A <script> tag.\n\n## Usage", "A &lt;script&gt; tag.</p>\n<h4 id=\"user-usage\">Usage</h4>"),
        ("A <style> tag.\n\n## Usage", "A &lt;style&gt; tag.</p>\n<h4 id=\"user-usage\">Usage</h4>"),
        ("A <template> tag.\n\n## Usage", "A &lt;template&gt; tag.</p>\n<h4 id=\"user-usage\">Usage</h4>"),
        ("A <iframe> tag.\n\n## Usage", "A &lt;iframe&gt; tag.</p>\n<h4 id=\"user-usage\">Usage</h4>"),
        ("<script>\nrun()\n</script>\n\nUsage", "&lt;script&gt;\nrun()\n\n<p>Usage</p>"),
        (
            "---\ntitle: EKS\n---\n# EKS",
            "<pre><code class=\"language-yaml\">title: EKS\n</code></pre>\n<h3 id=\"user-eks\">EKS</h3>",
        ),
        ("---\n\nEKS\n\n---\n", "<hr>\n<p>EKS</p>\n<hr>"),
        ("---\ntitle: EKS\n", "<hr>\n<p>title: EKS</p>"),
    ] {
        let html = html(markdown);
        assert!(html.contains(expected), "{markdown}: {html}");
    }
    let html = html(&format!("{}<a name=\"x\"></a>", "arn:aws:iam::<account-id>:role ".repeat(100)));
    assert_eq!(html.matches("&lt;account-id&gt;").count(), 100, "{html}");
    assert!(html.contains("<a name=\"user-x\""), "{html}");
}
