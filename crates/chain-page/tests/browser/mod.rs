//! Controls Chromium or Chrome for tests of pages, through pipes in the DevTools protocol.

#![allow(dead_code, reason = "each test binary uses a part")]

#[path = "../../../xtask/tests/skipped/mod.rs"]
pub mod skipped;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use skipped::Requirement;

/// Time limit for a reply of the browser, generous for slow machines.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Arguments for every start of the browser.
const QUIET: [&str; 6] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
];

/// Finds Chromium or Chrome. Says that the test is skipped if there is none.
fn find() -> Option<PathBuf> {
    if skipped::lacks(Requirement::Chromium) { None } else { skipped::chromium() }
}

/// A browser with one page.
pub struct Browser {
    process: Child,
    commands: File,
    replies: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// Console messages and errors of the page.
    pub complaints: Vec<String>,
    /// Addresses that the page requested.
    pub requests: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser. Returns `None` if there is none.
    pub fn start() -> Option<Self> {
        let chrome = find()?;
        let folder = tempfile::tempdir().expect("a scratch folder");
        let [commands, replies] = ["commands", "replies"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args([&commands, &replies]).status().expect("mkfifo");
        assert!(made.success(), "no pipes");
        // The protocol's pipes are the descriptors 3 and 4, which a shell can open.
        let process = Command::new("sh")
            .args(["-c", "in=$1 out=$2; shift 2; exec \"$@\" 3<\"$in\" 4>\"$out\"", "sh"])
            .args([&commands, &replies, &chrome])
            .args(QUIET)
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let commands = OpenOptions::new().write(true).open(&commands).expect("a pipe");
        let answers = BufReader::new(File::open(&replies).expect("a pipe"));
        let (send, replies) = channel();
        std::thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                if let Ok(message) = serde_json::from_slice(&message)
                    && send.send(message).is_err()
                {
                    break;
                }
            }
        });
        let mut browser = Self {
            process,
            commands,
            replies,
            session: None,
            last: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Opens a file and waits until its script reports that it is ready.
    pub fn open(&mut self, file: &Path) {
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", json!({ "url": url }));
        self.until("document.documentElement?.dataset.ready !== undefined");
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, condition: &str) {
        for _ in 0..2400 {
            if self.eval(condition) == Value::Bool(true) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{condition} does not hold; {:?}", self.complaints);
    }

    /// Returns the value of an expression.
    pub fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Presses a key: `Tab`, `Enter`, `ArrowRight`, or a character.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            " " => (32, " "),
            "ArrowLeft" => (37, ""),
            "ArrowRight" => (39, ""),
            "ArrowUp" => (38, ""),
            "ArrowDown" => (40, ""),
            "Home" => (36, ""),
            "End" => (35, ""),
            letter => (0, letter),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Sets the size of the window in pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Sets the medium (`screen`, `print`) and the preferred colour scheme (`light`, `dark`).
    pub fn prefer(&mut self, medium: &str, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "media": medium, "features": features }));
    }

    /// Returns a screenshot of the window or of the whole page, as PNG.
    pub fn screenshot(&mut self, whole: bool) -> Vec<u8> {
        use base64::Engine;
        let shot = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": whole }));
        let data = shot["data"].as_str().expect("a screenshot");
        base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
    }

    /// Sends a command and waits for its answer; records events that arrive in the meantime.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).expect("the browser listens");
        loop {
            let mut answer = self.replies.recv_timeout(TIMEOUT).unwrap_or_else(|e| panic!("{method}: {e}"));
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.consoleAPICalled") => self.complaints.push(params["args"].to_string()),
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Log.entryAdded") => self.complaints.push(params["entry"].to_string()),
            Some("Network.requestWillBeSent") => {
                self.requests.push(params["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
