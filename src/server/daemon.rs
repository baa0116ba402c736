//! How programs that make themselves daemons are kept in the foreground. Pure.

/// What to do about a program of that name, as the end of "run it in the foreground: ...".
///
/// From the programs' manuals; it is advice, and nothing else depends on it.
pub(super) fn foreground(program: &str) -> Option<&'static str> {
    Some(match program {
        "nginx" => "add `-g 'daemon off;'`, or `daemon off;` to its configuration",
        "redis-server" | "valkey-server" | "keydb-server" => "add `--daemonize no`",
        "haproxy" => "add `-db`, and leave out `-D`",
        "memcached" | "mosquitto" | "unbound" => "leave out `-d`",
        "gunicorn" => "leave out `-D` and `--daemon`",
        "mongod" | "mongos" => "leave out `--fork`",
        "lighttpd" | "sshd" => "add `-D`",
        "httpd" | "apache2" => "add `-DFOREGROUND`",
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
