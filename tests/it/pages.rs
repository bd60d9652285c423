//! The pages of the registry, with real modules and in a real browser.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use http::Method;
use opendepot_testbed::github::{File, real_repositories};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use opendepot_testbed::terraform::Terraform;
use serde_json::{Value, json};

use crate::support::chromium::{Browser, has_browser};
use crate::support::registry::{Depot, archive, metric};
use crate::support::{World, real_modules, soon};

const OWNER: &str = "terraform-aws-modules";

fn git(repository: &Path, args: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(repository).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The names that `block "NAME" {` lines of a folder's files declare, as they are in git.
fn declared(repository: &Path, tag: &str, folder: &str, block: &str) -> BTreeSet<String> {
    let tree = format!("{tag}:{folder}");
    let inside = if folder.is_empty() { tree.clone() } else { format!("{tree}/") };
    let files = git(repository, &["ls-tree", "--name-only", &tree]);
    let files =
        files.lines().filter(|file| Path::new(file).extension().is_some_and(|extension| extension == "tf"));
    let texts = files
        .map(|file| git(repository, &["show", &format!("{inside}{file}")]))
        .collect::<Vec<_>>()
        .join("\n");
    let start = format!("{block} \"");
    texts.lines().filter_map(|line| Some(line.strip_prefix(&start)?.split('"').next()?.to_owned())).collect()
}

/// The names behind an id's prefix.
fn shown(page: &str, prefix: &str) -> BTreeSet<String> {
    let start = format!("<article class=\"item\" id=\"{prefix}_");
    page.split(&start).skip(1).filter_map(|rest| Some(rest.split('"').next()?.to_owned())).collect()
}

/// The page at a URL, once the registry knows the version and has read its archive: it hears of one later
/// than the test does, and on a busy machine an archive may take longer than one read may last.
async fn documented(depot: &Depot, url: &str) -> String {
    soon(|| async {
        let answer = depot.get(url, &[]).await?;
        let page = answer.text();
        ensure!(answer.status == 200, "{url}: HTTP {}", answer.status);
        let notice = page.split("<p class=\"notice bad\" role=\"status\">").nth(1);
        let notice = notice.and_then(|rest| rest.split('<').next());
        ensure!(notice.is_none(), "{url}: {notice:?}");
        Ok(page)
    })
    .await
}

#[tokio::test]
async fn pages_of_real_modules_show_what_their_files_declare() {
    if !real_modules() {
        return;
    }
    let depot = Depot::new("platform").await;
    let world = &depot.world;
    let _operator = world.operator().await;
    let modules = [("eks", ["v21.10.1", "v21.18.0"], "zip"), ("s3-bucket", ["v4.11.0", "v5.1.0"], "tar")];
    for (name, tags, format) in modules {
        world.bed.github.alias(&world.repository(name), &format!("{OWNER}/terraform-aws-{name}")).unwrap();
        world.apply(&world.module(name).config("fileFormat", json!(format)).versions(&tags));
    }
    let registry = depot.registry(&["--url", "https://registry.acme.io"]).await;
    let base = format!("https://{}", registry.registry_address());
    for (name, [old, new], _) in modules {
        world.module_ready(name).await;
        let address = format!("{}/{name}/aws", world.name);
        let repository = real_repositories().join(format!("{OWNER}/terraform-aws-{name}.git"));
        for tag in [old, new] {
            let folders = git(&repository, &["ls-tree", "--name-only", &format!("{tag}:modules")]);
            let folders = folders
                .lines()
                .filter(|folder| !folder.contains('.'))
                .map(|folder| format!("/modules/{folder}"));
            for folder in std::iter::once(String::new()).chain(folders) {
                let url = format!("{base}/modules/{address}/{}{folder}", tag.trim_start_matches('v'));
                let page = documented(&depot, &url).await;
                assert!(!page.contains("could not be read"), "{url}");
                for (block, prefix) in [("variable", "input"), ("output", "output")] {
                    let declared = declared(&repository, tag, folder.trim_start_matches('/'), block);
                    assert_eq!(shown(&page, prefix), declared, "{url}: {block}");
                }
            }
        }
        let [before, after] = [old, new].map(|tag| declared(&repository, tag, "", "variable"));
        let url = format!("{base}/v1/modules/{address}/compare/{old}...{new}");
        let comparison: Value = serde_json::from_slice(&depot.get(&url, &[]).await.unwrap().body).unwrap();
        let root =
            comparison["modules"].as_array().unwrap().iter().find(|module| module["path"] == "").unwrap();
        let named = |what: &str| -> BTreeSet<String> {
            let changes = root["changes"].as_array().unwrap().iter();
            let inputs = changes.filter(|change| change["subject"] == "input" && change["what"] == what);
            inputs.map(|change| change["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(named("removed"), before.difference(&after).cloned().collect(), "{comparison:#}");
        assert_eq!(named("added"), after.difference(&before).cloned().collect(), "{comparison:#}");
        terraform_accepts(&after, &git(&repository, &["show", &format!("{new}:variables.tf")]));
    }
    if let Some(folder) = std::env::var_os("OPENDEPOT_SCREENSHOTS") {
        let address = format!("{base}/modules/{}/eks/aws", world.name);
        screenshots(Path::new(&folder), &address).await;
    }
}

#[tokio::test]
async fn a_page_says_what_the_store_does_as_a_download_would_and_it_is_counted() {
    let depot = Depot::new("pages-store").await;
    let (s3, bucket) = (&depot.world.bed.s3, &depot.world.name);
    depot.publish("net", &[("1.0.0", archive(CALM_TF, 0)), ("1.1.0", archive(CALM_TF, 1))]).await;
    let registry = depot.registry(&[]).await;
    let module = format!("https://{}/modules/{bucket}/net/aws", registry.registry_address());
    let url = format!("{module}/1.0.0");
    for (failure, kind, sentence) in [
        (S3Failure::Answer(403, "AccessDenied"), "denied", "its log has the details"),
        (S3Failure::Answer(404, "NoSuchBucket"), "missing", "is being restored"),
        (S3Failure::Answer(503, "SlowDown"), "throttled", "try again in a minute"),
        // The last one, because it is kept for a minute.
        (S3Failure::WrongChecksum, "differs", "other content than what was published"),
    ] {
        let series = format!("opendepot_registry_s3_errors_total{{kind=\"{kind}\"}}");
        let before = metric(&registry, &series).await;
        s3.inject(S3Fault::new(bucket, failure.clone()).method(Method::GET));
        soon(|| async {
            let page = depot.get(&url, &[]).await?.text();
            ensure!(page.contains(sentence), "{failure:?}: {page}");
            Ok(())
        })
        .await;
        assert!(metric(&registry, &series).await > before, "{failure:?} is counted as {kind}");
        s3.clear_faults(bucket);
    }
    assert!(documented(&depot, &format!("{module}/1.1.0")).await.contains("id=\"input_cidr\""));
}

/// Pictures for the README, made by `hack/screenshots`.
async fn screenshots(folder: &Path, address: &str) {
    for (name, page, dark) in [("module", "/21.18.0", false), ("compare", "/compare/21.10.1...21.18.0", true)]
    {
        let browser = Browser::open(1280, 800, dark).await.unwrap();
        browser.visit(&format!("{address}{page}")).await.unwrap();
        std::fs::write(folder.join(format!("{name}.png")), browser.screenshot().await.unwrap()).unwrap();
    }
}

/// Terraform accepts each of these inputs, and no other.
fn terraform_accepts(inputs: &BTreeSet<String>, variables: &str) {
    let terraform = Terraform::new().unwrap();
    std::fs::create_dir(terraform.folder().join("called")).unwrap();
    std::fs::write(terraform.folder().join("called/variables.tf"), variables).unwrap();
    let configuration = |inputs: &BTreeSet<String>| {
        let set: Vec<String> = inputs.iter().map(|input| format!("  {input} = var.any\n")).collect();
        format!(
            "variable \"any\" {{\n  type = any\n}}\nmodule \"it\" {{\n  source = \"./called\"\n{}}}\n",
            set.concat()
        )
    };
    terraform.configure(&configuration(inputs)).unwrap();
    terraform.run(&["init", "-no-color"]).unwrap();
    terraform.run(&["validate", "-no-color"]).unwrap();
    let mut more = inputs.clone();
    more.insert("made_up".into());
    terraform.configure(&configuration(&more)).unwrap();
    let refused = terraform.run(&["validate", "-no-color"]).unwrap_err().to_string();
    assert!(refused.contains("Unsupported argument") && refused.contains("made_up"), "{refused}");
}

const CALM_TF: &str =
    "variable \"cidr\" {\n  description = \"The range of addresses\"\n  type        = string\n}\n";
/// A README and variables that try to run something in a browser.
const HOSTILE: &str = "# Hostile\n\n<script>document.title='owned'</script>\n\n<img src=x onerror=\"document.title='owned'\">\n\n\
    <svg onload=\"document.title='owned'\">\n\n[a](javascript:document.title='owned')\n\n<a href=\"javascript:document.title='owned'\">b</a>\n\n\
    ![i](https://evil.example/pixel.png)\n\n<iframe src=\"https://evil.example\"></iframe>\n\n<style>@import 'https://evil.example/x.css';</style>\n\n\
    <form action=\"https://evil.example\"><input name=x></form>\n";
const HOSTILE_TF: &str = "variable \"x\" {\n  description = \"<script>document.title='owned'</script><img src=x onerror=alert(1)>\"\n  \
    type = string\n  default = \"\\\"><script>document.title='owned'</script>\"\n}\n\
    variable \"long\" {\n  type = map(object({ a_very_long_attribute_name_that_does_not_fit = string, another_very_long_attribute_name = number }))\n}\n\
    variable \"nested\" {\n  description = <<EOT\n    Rules:\n      - a line of a description that is longer than a narrow screen is wide, so that it wraps\n        - nested\nEOT\n}\n";

#[tokio::test]
async fn pages_work_in_a_browser_by_keyboard_and_run_nothing() {
    if !has_browser() {
        return;
    }
    let depot = Depot::of(World::new("pages-browser").await);
    let world = &depot.world;
    let _operator = world.operator().await;
    let repository = world.bed.github.repository(&world.repository("net")).unwrap();
    repository
        .release(
            "v1.0.0",
            &[
                File::new("main.tf", CALM_TF),
                File::new("README.md", "# Network\n\nA network.\n"),
                File::new("modules/calls/main.tf", "module \"net\" {\n  source = \"../..\"\n}\n"),
            ],
        )
        .unwrap();
    repository
        .release("v1.1.0", &[File::new("main.tf", HOSTILE_TF), File::new("README.md", HOSTILE)])
        .unwrap();
    let module = world.module("net").config("repoUrl", json!(repository.url())).versions(&["1.0.0", "1.1.0"]);
    world.apply(&module);
    world.module_ready("net").await;
    let registry = depot.registry(&[]).await;
    let base = format!("https://{}", registry.registry_address());
    let page = format!("{base}/modules/{}/net/aws", world.name);
    let mut problems = Vec::new();
    for (width, dark) in [(1280, false), (360, true)] {
        let browser = Browser::open(width, 900, dark).await.unwrap();
        for url in [
            &page,
            &format!("{page}/1.0.0"),
            &format!("{page}/1.0.0/modules/calls"),
            &format!("{page}/versions"),
            &format!("{page}/compare/1.0.0...1.1.0"),
            &format!("{base}/"),
        ] {
            browser.visit(url).await.unwrap();
            let wide = "return document.documentElement.scrollWidth <= window.innerWidth";
            assert_eq!(browser.evaluate(wide).await.unwrap(), true, "{url} scrolls sideways at {width}");
            let title = browser.evaluate("return document.title").await.unwrap();
            assert!(title.as_str().unwrap().ends_with("· OpenDepot"), "{url}: {title}");
            for problem in
                serde_json::from_value::<Vec<String>>(browser.evaluate(CHECKS).await.unwrap()).unwrap()
            {
                problems.push(format!("{url} at {width}: {problem}"));
            }
        }
        let foreign: Vec<String> = browser.requested().await.unwrap();
        let foreign: Vec<&String> = foreign
            .iter()
            .filter(|url| !url.starts_with(&base) && !url.starts_with("data:") && !url.starts_with("chrome"))
            .collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let snippet = by_keyboard(&base, &page, world).await;
    // As it is shown, it is a file that both clients install.
    for client in Terraform::both().unwrap() {
        let client = client.env("SSL_CERT_FILE", depot.file("ca.pem"));
        client.configure(&snippet).unwrap();
        client
            .run(&["init", "-no-color", "-input=false"])
            .unwrap_or_else(|error| panic!("{}: {error:#}\n{snippet}", client.name()));
        assert_eq!(std::fs::read_to_string(client.module("net").join("main.tf")).unwrap(), CALM_TF);
    }
}

/// Waits until a script gives a text: a key that opens a page does not wait for it.
async fn shows(browser: &Browser, script: &str, text: &str) {
    soon(|| async {
        let found = browser.evaluate(script).await?;
        ensure!(found == text, "{script}: {found}");
        Ok(())
    })
    .await;
}

/// Search, module and version are reached without a mouse. Gives the snippet that the page shows.
async fn by_keyboard(base: &str, page: &str, world: &World) -> String {
    let browser = Browser::open(1280, 900, false).await.unwrap();
    browser.visit(base).await.unwrap();
    let focus = "return (document.activeElement.innerText || document.activeElement.id || '').trim()";
    let tab_to = async |wanted: &str| {
        for _ in 0..40 {
            browser.press("\u{e004}").await.unwrap();
            if browser.evaluate(focus).await.unwrap().as_str().is_some_and(|text| text.starts_with(wanted)) {
                return;
            }
        }
        panic!("{wanted} is not reached by Tab");
    };
    tab_to("q").await;
    browser.press("net\u{e007}").await.unwrap();
    shows(&browser, "return location.search.includes('net') && document.readyState", "complete").await;
    tab_to(&format!("{}/net/aws", world.name)).await;
    browser.press("\u{e007}").await.unwrap();
    let version = "return document.querySelector('.switch summary b').innerText";
    shows(&browser, version, "1.1.0").await;
    tab_to("Version 1.1.0").await;
    browser.press("\u{e007}").await.unwrap();
    tab_to("1.0.0").await;
    browser.press("\u{e007}").await.unwrap();
    shows(&browser, version, "1.0.0").await;
    let snippet = browser.evaluate("return document.querySelector('.snippet').innerText").await.unwrap();
    let host = page.trim_start_matches("https://").split('/').next().unwrap();
    let expected = format!("source  = \"{host}/{}/net/aws\"", world.name);
    let snippet = snippet.as_str().unwrap().to_owned();
    assert!(snippet.contains(&expected), "{snippet}");
    snippet
}

/// What a screen reader and weak eyes need: names, labels, one main heading, contrast of at least 4.5.
const CHECKS: &str = r"
const problems = [];
const all = selector => [...document.querySelectorAll(selector)];
if (all('h1').length !== 1) problems.push('there is not one h1');
for (const part of ['header', 'main', 'footer']) if (all(part).length !== 1) problems.push('no ' + part);
if (!document.documentElement.lang) problems.push('no language');
for (const a of all('a')) if (!a.textContent.trim() && !a.getAttribute('aria-label') && !a.name) problems.push('a link without text: ' + a.outerHTML);
for (const b of all('button')) if (!b.textContent.trim()) problems.push('a button without text');
for (const i of all('input')) if (!i.labels.length && i.type !== 'checkbox' && i.type !== 'hidden') problems.push('a field without a label');
for (const n of all('nav, section')) if (!n.getAttribute('aria-label') && !n.getAttribute('aria-labelledby') && n.tagName === 'NAV') problems.push('a nav without a name');
for (const e of all('.text')) if (e.innerText.trim() !== e.textContent.trim()) problems.push('a text lost its layout: ' + e.innerText);
for (const e of all('script, iframe, img, svg, form[action^=http], [style], [onclick], [onerror]')) problems.push('there is a ' + e.outerHTML);
const ids = all('[id]').map(e => e.id);
const linked = all('nav.contents a').map(a => a.getAttribute('href').slice(1));
if (linked.length) for (const s of all('section[id]')) if (!linked.includes(s.id)) problems.push('the section is not in the contents: ' + s.id);
for (const id of ids) if (ids.filter(other => other === id).length > 1) problems.push('the id twice: ' + id);
const rgb = text => text.match(/[\d.]+/g).map(Number);
const lum = ([r, g, b]) => { const f = v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
for (const e of all('main *, header *, footer *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.offsetParent) continue;
  const [a, b] = [lum(rgb(getComputedStyle(e).color)), lum(ground(e))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) problems.push('contrast ' + ratio.toFixed(2) + ' of ' + e.tagName + '.' + e.className + ' ' + e.innerText.slice(0, 40));
}
return problems;
";
