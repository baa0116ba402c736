//! The guide shows the configuration that these tests run with.

#[test]
fn it_has_the_nextest_configuration() {
    let guide = include_str!("../../../src/guide/frameworks.md");
    assert!(guide.contains(&format!("```toml\n{}```", include_str!("../.config/nextest.toml"))));
}
