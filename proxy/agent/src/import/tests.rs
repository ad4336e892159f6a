//! Into the file of this machine.

use std::fs;

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::*;
use crate::cli::{Cli, Command};

fn flags(arguments: &[&str]) -> ImportFlags {
    let line = ["tidegate", "import", "acme.json"].iter().chain(arguments);
    match Cli::read(line).map(|cli| cli.command) {
        Ok(Command::Import(flags)) => flags,
        other => panic!("{other:?}"),
    }
}

/// Base64 of text, as RFC 4648 has it.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk
            .iter()
            .chain([&0, &0])
            .take(3)
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            encoded.push(if place > chunk.len() {
                '='
            } else {
                digit.into()
            });
        }
    }
    encoded
}

fn acme_json() -> String {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a.example".to_owned(), "b.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let account = KeyPair::generate().unwrap();
    json!({"web": {
        "Account": {
            "Email": "admin@example.com",
            "Registration": {"uri": "https://acme-v02.api.letsencrypt.org/acme/acct/1"},
            "PrivateKey": base64(&account.serialize_pem())
        },
        "Certificates": [{
            "domain": {"main": "a.example", "sans": ["b.example"]},
            "certificate": base64(&certificate.pem()),
            "key": base64(&key.serialize_pem())
        }, {"domain": {"main": "broken.example"}, "certificate": "", "key": ""}]
    }})
    .to_string()
}

#[test]
fn an_import_into_a_file_is_there_and_changes_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acme.json");
    fs::write(&file, acme_json()).unwrap();
    let (file, data) = (file.to_str().unwrap(), folder.path().join("data"));
    let data = data.to_str().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outcomes = |arguments: &[&str]| {
        let flags = flags(&[&[file, "--data-dir", data], arguments].concat());
        let content = read(&flags.file).unwrap();
        let import = import(&content, &flags, &Issuers::default()).unwrap();
        let rows = runtime.block_on(keep(&import, &flags)).unwrap();
        (
            report(&import, &rows),
            rows.into_iter()
                .map(|row| row.outcome.unwrap())
                .collect::<Vec<_>>(),
        )
    };
    let made = [Imported::Made, Imported::Made];
    let (text, dry) = outcomes(&["--dry-run"]);
    assert_eq!(dry, made, "{text}");
    assert!(!std::path::Path::new(data).exists());
    let (text, real) = outcomes(&["--issuer", "main"]);
    assert_eq!(real, made);
    for part in [
        "account at https://acme-v02.api.letsencrypt.org/directory",
        "a.example, b.example",
        "tidegate/tidegate-certificate-",
        "left out: broken.example: the chain is missing",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let (text, again) = outcomes(&[]);
    assert_eq!(again, [Imported::There, Imported::There]);
    assert!(text.contains("there already"), "{text}");
    // Another instance has a file of its own.
    let (_, other) = outcomes(&["--instance", "other"]);
    assert_eq!(other, made);
}

#[test]
fn a_file_in_use_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let flags = flags(&["acme.json", "--data-dir", data]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let first = Destination::open(&flags).await.unwrap();
        let error = Destination::open(&flags).await.err().unwrap().to_string();
        assert!(error.contains("stop that process"), "{error}");
        first.close().await;
        Destination::open(&flags).await.unwrap().close().await;
    });
}

#[test]
fn the_issuer_is_one_of_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("settings.yaml");
    let text = "issuers:\n  - {name: first, directory: 'https://ca.example/dir'}\n  - {name: le, directory: letsencrypt}\n";
    fs::write(&config, text).unwrap();
    let issuers = settings::issuers(Some(&config)).unwrap();
    let config = config.to_str().unwrap();
    let issuer_of = |arguments: &[&str]| {
        let flags = flags(&[&["x", "--config", config], arguments].concat());
        let import = import(acme_json().as_bytes(), &flags, &issuers);
        import.map(|import| import.certificates[0].issued.issuer.clone())
    };
    assert_eq!(issuer_of(&[]).unwrap(), "first");
    assert_eq!(issuer_of(&["--directory", "letsencrypt"]).unwrap(), "le");
    assert_eq!(issuer_of(&["--issuer", "le"]).unwrap(), "le");
    let error = issuer_of(&["--issuer", "x"]).unwrap_err().to_string();
    assert!(error.contains("--issuer x"), "{error}");
    let without = flags(&["x"]);
    let import = import(acme_json().as_bytes(), &without, &Issuers::default()).unwrap();
    assert_eq!(import.certificates[0].issued.issuer, "default");
}

#[test]
fn what_is_no_acme_json_is_named() {
    let error = import(b"{}", &flags(&["x.json"]), &Issuers::default()).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.starts_with("x.json cannot be imported"), "{error}");
    let nowhere = read(Path::new("/does/not/exist")).unwrap_err();
    assert!(format!("{nowhere:#}").contains("/does/not/exist"));
}
