//! How programs that make themselves daemons are kept in the foreground. Pure.

/// What to do about a program of that name, as the end of "run it in the foreground: ...".
///
/// From the programs' manuals; it is advice, and nothing else depends on it.
pub(super) fn foreground(program: &str) -> Option<&'static str> {
    // Debian has the version in the name: php-fpm8.2.
    let program = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    Some(match program {
        "nginx" => "add `-g 'daemon off;'`, or `daemon off;` to its configuration",
        "redis-server" | "valkey-server" | "keydb-server" => "add `--daemonize no`",
        "haproxy" => "add `-db`, and leave out `-D`",
        "memcached" | "mosquitto" => "leave out `-d`",
        "unbound" => "add `-d`",
        "named" => "add `-f`",
        "mysqld" | "mariadbd" | "uwsgi" => "leave out `--daemonize`",
        "gunicorn" => "leave out `-D` and `--daemon`",
        "mongod" | "mongos" => "leave out `--fork`",
        "lighttpd" | "sshd" => "add `-D`",
        "httpd" | "apache" => "add `-DFOREGROUND`",
        "php-fpm" => "add `--nodaemonize`",
        "varnishd" => "add `-F`",
        "squid" => "add `-N`",
        "dnsmasq" => "add `--keep-in-foreground`",
        "slapd" => "add `-d 0`",
        "postgres" | "pg_ctl" => "start `postgres -D DIR` itself, not `pg_ctl start`",
        "rabbitmq-server" => "leave out `-detached`",
        "sh" | "bash" | "dash" | "zsh" => "end the script with `exec` and the server's command",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::foreground;

    #[test]
    fn a_version_in_the_name_makes_no_difference() {
        for (versioned, plain) in [("php-fpm8.2", "php-fpm"), ("apache2", "apache")] {
            assert!(foreground(plain).is_some());
            assert_eq!(foreground(versioned), foreground(plain));
        }
        assert_eq!([foreground("app"), foreground("nginx-app"), foreground("")], [None; 3]);
    }
}
