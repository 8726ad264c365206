//! The broker's certificate: made once, kept, and refused with a reason where it is no good.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use millrace_net::ServerIdentity;
use millrace_net::tls::TlsError;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_certificate_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = ServerIdentity::in_data_dir(dir.path()).unwrap();
    let key = fs::metadata(dir.path().join("tls/key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let again = ServerIdentity::in_data_dir(dir.path()).unwrap();
    assert_eq!(first.fingerprint(), again.fingerprint());
    assert_eq!(first.fingerprint().to_string().len(), 64);
    let other = tempfile::tempdir().unwrap();
    let other = ServerIdentity::in_data_dir(other.path()).unwrap();
    assert_ne!(first.fingerprint(), other.fingerprint());
}

#[test]
fn a_first_start_that_was_interrupted_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tls.new")).unwrap();
    fs::write(dir.path().join("tls.new/key.pem"), "half a k").unwrap();
    ServerIdentity::in_data_dir(dir.path()).unwrap();
}

#[test]
fn own_files_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let made = ServerIdentity::in_data_dir(dir.path()).unwrap();
    let (cert, key) = (
        dir.path().join("tls/cert.pem"),
        dir.path().join("tls/key.pem"),
    );
    let own = ServerIdentity::from_files(&cert, &key).unwrap();
    assert_eq!(own.fingerprint(), made.fingerprint());
    assert_eq!(own.certificate(), cert);
}

#[test]
fn half_a_pair_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    ServerIdentity::in_data_dir(dir.path()).unwrap();
    fs::remove_file(dir.path().join("tls/key.pem")).unwrap();
    let error = ServerIdentity::in_data_dir(dir.path()).unwrap_err();
    assert!(matches!(&error, TlsError::Half { missing, .. } if missing.ends_with("key.pem")));
}

#[test]
fn bad_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    ServerIdentity::in_data_dir(dir.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    ServerIdentity::in_data_dir(other.path()).unwrap();
    let (cert, key) = (
        dir.path().join("tls/cert.pem"),
        dir.path().join("tls/key.pem"),
    );
    let nonsense = dir.path().join("nonsense.pem");
    fs::write(
        &nonsense,
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let missing = dir.path().join("missing.pem");
    let other_key = other.path().join("tls/key.pem");
    let cases = [
        (&missing, &key, "missing.pem"),
        (&cert, &missing, "missing.pem"),
        (&nonsense, &key, "nonsense.pem"),
        (&empty, &key, "empty.pem"),
        (&cert, &cert, "cert.pem"),
        (&cert, &other_key, "cert.pem"),
    ];
    for (cert, key, named) in cases {
        let error = ServerIdentity::from_files(cert, key)
            .unwrap_err()
            .to_string();
        assert!(error.contains(named), "{error}");
    }
}
