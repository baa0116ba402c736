//! The kernel's hold, in network namespaces whose settings the test may choose.
#![cfg(target_os = "linux")] // elsewhere, there is none

mod support;

use support::{Allotment, OwnRegistry, stdout_of, unshare};

/// Holds all of the ephemeral range of a new namespace, after `settings`; see
/// `in_a_full_namespace` in `support/child.rs` for what is checked.
fn nothing_of_a_held_range_is_given_away(settings: &str, held: &str) {
    let own = OwnRegistry::new();
    let script = format!(
        "ip link set lo up; echo 40000 40007 >/proc/sys/net/ipv4/ip_local_port_range; {settings}; \
         exec $trace \"$0\" full-namespace \"$1\" 40000 40007"
    );
    let Some(output) = unshare(&["--net"], &script, &[&own.arg()]) else { return };
    assert_eq!(stdout_of(&output), held);
}

#[test]
fn usual() {
    nothing_of_a_held_range_is_given_away("true", "both families");
}

#[test]
fn without_ipv6_addresses() {
    nothing_of_a_held_range_is_given_away(
        "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
        "both families",
    );
}

/// A kernel without IPv6 says so at the first socket of that family; strace says it here.
#[test]
fn without_the_ipv6_protocol() {
    if !support::has_strace() {
        return;
    }
    let inject = "inject=socket:error=EAFNOSUPPORT:when=1";
    let settings = format!("trace='strace -qq -o /dev/null -e trace=socket -e {inject}'");
    nothing_of_a_held_range_is_given_away(&settings, "ipv4");
}

#[test]
fn with_bindv6only() {
    nothing_of_a_held_range_is_given_away("echo 1 >/proc/sys/net/ipv6/bindv6only", "both families");
}

/// Ports belong to a network namespace: the same number can be leased in two of them at once, from
/// one registry.
#[test]
fn each_namespace_has_its_own_ports() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let _here = own.request().exact(block.first).lease().unwrap();
    let port = block.first.to_string();
    let script = "ip link set lo up; exec \"$0\" hold-exact \"$1\" \"$2\" 0 </dev/null";
    let Some(output) = unshare(&["--net"], script, &[&own.arg(), &port]) else { return };
    assert_eq!(stdout_of(&output), "held");
}
