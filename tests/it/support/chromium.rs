//! Headless Chromium, driven through chromedriver by its HTTP protocol.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opendepot_testbed::port::free_port;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A browser window. It closes when this is dropped.
pub(crate) struct Browser {
    driver: Child,
    client: reqwest::Client,
    session: String,
    profile: TempDir,
}

/// Whether Chromium is at hand. Where CI says that it is CI, it has to be.
pub(crate) fn has_browser() -> bool {
    let there = Command::new("chromedriver").arg("--version").output().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "CI runs with a browser: install chromium-driver");
    there
}

impl Browser {
    /// Opens a window of this size. `dark`: the colour scheme that the user prefers.
    pub(crate) async fn open(width: u32, height: u32, dark: bool) -> Result<Self> {
        let port = free_port()?;
        let driver = Command::new("chromedriver")
            .args([format!("--port={port}"), "--silent".into()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start chromedriver: install chromium-driver")?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(2)).build()?;
        let profile = tempfile::tempdir()?;
        let base = format!("http://127.0.0.1:{port}");
        let mut browser = Self { driver, client, session: base.clone(), profile };
        for _ in 0..600 {
            if browser.client.get(format!("{base}/status")).send().await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let folder = browser.profile.path().display();
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--no-first-run".into(),
            "--no-proxy-server".into(),
            "--hide-scrollbars".into(),
            format!("--user-data-dir={folder}"),
            format!("--window-size={width},{height}"),
        ];
        if dark {
            arguments.push("--force-dark-mode".into());
            arguments.push("--blink-settings=preferredColorScheme=0".into());
        }
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "acceptInsecureCerts": true,
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }}});
        let answer = browser.post("/session", &capabilities).await?;
        let id = answer["sessionId"].as_str().context("chromedriver made no session")?.to_owned();
        browser.session = format!("{base}/session/{id}");
        // A window is not narrower than 500 pixels; a device may be.
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics});
        browser.post("/goog/cdp/execute", &command).await?;
        Ok(browser)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.client.post(format!("{}{path}", self.session)).json(body).send().await?;
        let value: Value = answer.json().await?;
        ensure!(value["value"]["error"].is_null(), "{path}: {}", value["value"]);
        Ok(value["value"].clone())
    }

    /// Opens a page, and waits until it is loaded.
    pub(crate) async fn visit(&self, url: &str) -> Result<()> {
        self.post("/url", &json!({"url": url})).await.map(drop)
    }

    /// The value of a function's body.
    pub(crate) async fn evaluate(&self, script: &str) -> Result<Value> {
        self.post("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// Presses keys, such as Tab (`\u{e004}`) or Enter (`\u{e007}`).
    pub(crate) async fn press(&self, keys: &str) -> Result<()> {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
            })
            .collect();
        let body = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.post("/actions", &body).await.map(drop)
    }

    /// The URLs that were requested since the last call.
    pub(crate) async fn requested(&self) -> Result<Vec<String>> {
        let log = self.post("/se/log", &json!({"type": "performance"})).await?;
        let lines = log.as_array().cloned().unwrap_or_default();
        let messages =
            lines.iter().filter_map(|line| serde_json::from_str::<Value>(line["message"].as_str()?).ok());
        Ok(messages
            .filter(|message| message["message"]["method"] == "Network.requestWillBeSent")
            .filter_map(|message| Some(message["message"]["params"]["request"]["url"].as_str()?.to_owned()))
            .collect())
    }

    /// A picture of what the window shows, as PNG.
    pub(crate) async fn screenshot(&self) -> Result<Vec<u8>> {
        let answer = self.client.get(format!("{}/screenshot", self.session)).send().await?;
        let value: Value = answer.json().await?;
        Ok(STANDARD.decode(value["value"].as_str().context("no picture")?)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        // Chromium does not end with the driver that started it. Its processes are known by their profile.
        let profile = format!("user-data-dir={}", self.profile.path().display());
        let _ = Command::new("pkill").args(["-KILL", "-f", "--", &profile]).status();
        let _ = self.driver.wait();
    }
}
