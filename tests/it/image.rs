//! What deploy/Dockerfile says of the image, tried on the command that is in it.

use std::{fs, path::Path};

use crate::support::process::{Process, run_with};

/// The instructions of the image's last stage: their names and the rest of their lines.
fn instructions() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/Dockerfile");
    let text = fs::read_to_string(file).expect("a Dockerfile");
    let (_, last) = text.rsplit_once("\nFROM ").expect("stages");
    let lines = last.lines().filter_map(|line| line.split_once(' '));
    let lines = lines.filter(|(name, _)| name.chars().all(|letter| letter.is_ascii_uppercase()));
    lines
        .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
        .collect()
}

fn instruction(name: &str) -> String {
    let found = instructions().into_iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no {name}")).1
}

/// The variables of the image, with a free port in place of its own.
fn environment() -> Vec<(String, String)> {
    let variables = instruction("ENV");
    let variables = variables.split(' ').map(|one| {
        let (name, value) = one.split_once('=').expect("a variable");
        (name.to_owned(), value.replace(":8085", ":0"))
    });
    variables.collect()
}

/// A command that is run without a shell, in the form of a JSON array.
fn command(text: &str) -> Vec<String> {
    let array = &text[text.find('[').expect("no shell")..];
    serde_json::from_str(array).expect("an array of texts")
}

#[test]
fn the_user_is_a_number_and_not_root() {
    for id in instruction("USER").split(':') {
        assert_ne!(id.parse(), Ok(0), "{id}");
        assert!(id.parse::<u32>().is_ok(), "{id}");
    }
}

#[tokio::test]
async fn the_image_listens_on_all_addresses_says_so_and_knows_how_it_is() {
    let environment = environment();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let entry = command(&instruction("ENTRYPOINT"));
    let arguments = command(&instruction("CMD"));
    assert_eq!(
        (entry, arguments),
        (vec!["packetboat".to_owned()], vec!["serve".to_owned()])
    );
    let server = Process::serve_with(&["--ephemeral"], &environment).await;
    let listening = server.addresses[0];
    assert!(listening.ip().is_unspecified(), "{listening}");
    // Testcontainers wait for it, on standard output.
    let started = format!("\nServer started, listening on {}\n", listening.port());
    assert!(server.greeting.contains(&started), "{}", server.greeting);

    let check = command(&instruction("HEALTHCHECK"));
    assert_eq!(check[0], "packetboat");
    let check: Vec<&str> = check[1..].iter().map(String::as_str).collect();
    let listen = listening.to_string();
    let its_environment = [("PACKETBOAT_LISTEN", listen.as_str())];
    let health = run_with(&check, &its_environment).await;
    assert!(health.status.success(), "{health:?}");
    let text = String::from_utf8(health.stdout).expect("text");
    assert!(text.contains("\"status\": \"ok\""), "{text}");

    server.signal("TERM").await;
    let (_, log) = server.ended().await;
    assert!(
        log.contains("WARN") && log.contains("without authentication"),
        "{log}"
    );
    let health = run_with(&check, &its_environment).await;
    assert_eq!(health.status.code(), Some(1), "{health:?}");
}
