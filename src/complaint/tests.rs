use proptest::prelude::*;

use super::What::{Excluded, InUse, NotPermitted};
use super::*;

#[track_caller]
fn check(output: &str, what: What, port: impl Into<Option<u16>>) {
    let found = complaint(output).map(|found| (found.what, found.port));
    assert_eq!(found, Some((what, port.into())), "{output:?}");
}

#[track_caller]
fn none(output: &str) {
    assert_eq!(complaint(output), None, "{output:?}");
}

/// Of each, what it printed when a listener had its port. Where there is a version, it was run on
/// Linux; its pid, its times and paths may have been shortened.
#[test]
fn servers_whose_port_is_in_use() {
    // Redis 7.0 (on stdout), nginx 1.22, PostgreSQL 15, memcached 1.6, HAProxy 2.6, Mosquitto 2.0,
    // lighttpd 1.4, Apache 2.4, dnsmasq 2.90.
    check(
        "5385:M 21 Nov 2026 15:31:14.495 # Warning: Could not create server TCP listening socket \
         127.0.0.1:43877: bind: Address already in use\n\
         5385:M 21 Nov 2026 15:31:14.495 # Failed listening on port 43877 (TCP), aborting.",
        InUse,
        43877,
    );
    check(
        "2026/11/21 15:31:14 [emerg] 5386#5386: bind() to 127.0.0.1:43877 failed (98: Address already \
         in use)",
        InUse,
        43877,
    );
    check(
        "2026-11-21 15:31:17.048 UTC [5387] LOG:  could not bind IPv4 address \"127.0.0.1\": Address \
         already in use\n\
         2026-11-21 15:31:17.048 UTC [5387] HINT:  Is another postmaster already running on port \
         43877? If not, wait a few seconds and retry.\n\
         2026-11-21 15:31:17.048 UTC [5387] WARNING:  could not create listen socket for \"127.0.0.1\"\n\
         2026-11-21 15:31:17.048 UTC [5387] FATAL:  could not create any TCP/IP sockets",
        InUse,
        43877,
    );
    check("failed to listen on one of interface(s) 127.0.0.1: Address already in use", InUse, None);
    check(
        "[ALERT]    (5408) : Binding [/srv/ha.cfg:7] for frontend f: cannot bind socket (Address \
         already in use) for [127.0.0.1:43877]",
        InUse,
        43877,
    );
    check(
        "1795275077: Opening ipv4 listen socket on port 43877.\n\
         1795275077: Error: Address already in use",
        InUse,
        43877,
    );
    check(
        "2026-11-21 15:32:02: (network.c.537) can't bind to socket: 127.0.0.1:43877: Address already \
         in use",
        InUse,
        43877,
    );
    check(
        "(98)Address already in use: AH00072: make_sock: could not bind to address 127.0.0.1:43877\n\
         no listening sockets available, shutting down",
        InUse,
        43877,
    );
    check(
        "\ndnsmasq: failed to create listening socket for 127.0.0.1: Address already in use",
        InUse,
        None,
    );
}

#[test]
fn python_whose_port_is_in_use() {
    // Python 3.11: http.server, a socket, asyncio; gunicorn 20.1, Flask 3.1, Django 5.2, uvicorn
    // 0.54, hypercorn 0.18, aiohttp 3.14, daphne 4.2, granian 2.8.
    check(
        "Traceback (most recent call last):\n  \
           File \"/usr/lib/python3.11/socketserver.py\", line 472, in server_bind\n    \
             self.socket.bind(self.server_address)\n\
         OSError: [Errno 98] Address already in use",
        InUse,
        None,
    );
    check(
        "    raise OSError(err.errno, 'error while attempting '\n\
         OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 43877): address \
         already in use",
        InUse,
        43877,
    );
    check(
        "[2026-11-21 15:32:53 +0000] [13604] [ERROR] Connection in use: ('127.0.0.1', 35799)\n\
         [2026-11-21 15:32:53 +0000] [13604] [ERROR] Retrying in 1 second.",
        InUse,
        35799,
    );
    check(
        "Address already in use\n\
         Port 43877 is in use by another program. Either identify and stop that program, or start \
         the server with a different port.",
        InUse,
        43877,
    );
    check("Error: That port is already in use.", InUse, None);
    check(
        "INFO:     Application startup complete.\n\
         ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 43877): address \
         already in use",
        InUse,
        43877,
    );
    check(
        "  File \"/srv/hypercorn/config.py\", line 275, in _create_sockets\n    \
             sock.bind(binding)\n\
         OSError: [Errno 98] Address already in use",
        InUse,
        None,
    );
    check(
        "2026-11-21 15:31:20,740 INFO     Starting server at tcp:port=43877:interface=127.0.0.1\n\
         2026-11-21 15:31:20,740 CRITICAL Listen failure: Couldn't listen on 127.0.0.1:43877: [Errno \
         98] Address already in use.",
        InUse,
        43877,
    );
    check("RuntimeError: Address already in use (os error 98)", InUse, None);
}

#[test]
fn node_deno_and_bun_whose_port_is_in_use() {
    // Node 20.20, and by it Express 5.3, Fastify 5.12, http-server 14.1, Next.js 16.4.
    let node = "node:events:502\n      throw er; // Unhandled 'error' event\n      ^\n\n\
        Error: listen EADDRINUSE: address already in use 127.0.0.1:43877\n    \
            at Server.setupListenHandle [as _listen2] (node:net:1908:16)\n    \
            at listenInCluster (node:net:1965:12)\n\
        Emitted 'error' event on Server instance at:\n    \
            at emitErrorNT (node:net:1944:8) {\n  \
          code: 'EADDRINUSE',\n  errno: -98,\n  syscall: 'listen',\n  address: '127.0.0.1',\n  \
          port: 43877\n}\n\nNode.js v20.20.2";
    check(node, InUse, 43877);
    let without_first = node.lines().skip(5).collect::<Vec<_>>().join("\n");
    check(&without_first, InUse, 43877);
    check("failed: listen EADDRINUSE: address already in use 127.0.0.1:43877", InUse, 43877);
    check(
        r#"{"level":50,"err":{"type":"Error","code":"EADDRINUSE","errno":-98,"syscall":"listen","address":"127.0.0.1","port":43877,"message":"listen EADDRINUSE: address already in use 127.0.0.1:43877"},"msg":"listen EADDRINUSE: address already in use 127.0.0.1:43877"}"#,
        InUse,
        43877,
    );
    // json-server 0.17, on stdout.
    check(
        "Some error occurred Error: listen EADDRINUSE: address already in use 127.0.0.1:43877",
        InUse,
        43877,
    );
    // Vite 8.3, with `--strictPort` and without; live-server 1.2.
    check(
        "error when starting dev server:\nError: Port 43877 is already in use\n    at Server.onError",
        InUse,
        43877,
    );
    check(
        "Port 43877 is in use, trying another one...\n\n  VITE v8.3.8  ready in 186 ms\n\n  \
         ➜  Local:   http://127.0.0.1:43878/",
        InUse,
        43877,
    );
    check(
        "\x1b[33mhttp://127.0.0.1:43877 is already in use. Trying another port.\x1b[39m\n\
         \x1b[32mServing \"/srv/la\" at http://127.0.0.1:37705\x1b[39m",
        InUse,
        43877,
    );
    // Next.js 16.4 without a port; an app of Express' generator.
    check(
        "⚠ Port 3000 is in use by process 31076, using available port 3001 instead.",
        InUse,
        3000,
    );
    check("Port 3001 is already in use", InUse, 3001);
    // Bun 1.4, its own server and Node's; Deno 2.9.
    check(
        "error: Failed to start server. Is port 43877 in use?\n syscall: \"listen\",\n   errno: 0,\n    \
         code: \"EADDRINUSE\"",
        InUse,
        43877,
    );
    check("error: Failed to start server. Is port 43877 in use?", InUse, 43877);
    check(
        "\x1b[0m\x1b[1m\x1b[31merror\x1b[0m: Uncaught (in promise) AddrInUse: Address already in use \
         (os error 98)\nDeno.serve({port:+Deno.args[0],hostname:'127.0.0.1'},()=>new Response('x'))",
        InUse,
        None,
    );
    // From issue trackers: Node 0.10, 4, 6 and a worker of a cluster; Bun 1.1;
    // create-react-app; Next.js.
    check("Error: listen EADDRINUSE\n    at Server._listen2 (net.js:1043:14)", InUse, None);
    check("Error: listen EADDRINUSE 127.0.0.1:3000", InUse, 3000);
    check("Error: listen EADDRINUSE :::3000\n    at Server.listen (net.js:1455:7)", InUse, 3000);
    check("Error: bind EADDRINUSE null:3001", InUse, 3001);
    check(
        "[error] uncaughtException: listen EADDRINUSE: address already in use :::3000",
        InUse,
        3000,
    );
    check(
        "[Nest] 23548  - 25/06/2024 00:11:05   ERROR [NestApplication] EADDRINUSE: Failed to start \
         server. Is port 5000 in use? +7ms",
        InUse,
        5000,
    );
    check(
        "? Something is already running on port 12345.\nWould you like to run the app on another port \
         instead? › (Y/n)",
        InUse,
        12345,
    );
    check("⚠ Port 3000 is in use by process 3597, using available port 3004 instead.", InUse, 3000);
}

#[test]
fn go_and_rust_whose_port_is_in_use() {
    // Go 1.19: log, panic, a JSON logger.
    check(
        "2026/11/21 15:32:17 listen tcp 127.0.0.1:37503: bind: address already in use",
        InUse,
        37503,
    );
    check(
        "panic: listen tcp 127.0.0.1:37503: bind: address already in use\n\ngoroutine 1 [running]:\n\
         main.main()\n\t/srv/go/main.go:6 +0x311",
        InUse,
        37503,
    );
    check(
        r#"{"error":"listen tcp 127.0.0.1:37503: bind: address already in use","level":"ERROR","msg":"server failed","time":"2026-11-21T15:32:00.1Z"}"#,
        InUse,
        37503,
    );
    // Rust 1.95.
    check(
        "Error: Os { code: 98, kind: AddrInUse, message: \"Address already in use\" }",
        InUse,
        None,
    );
    check(
        "thread 'main' (5467) panicked at main.rs:3:79:\n\
         called `Result::unwrap()` on an `Err` value: Os { code: 98, kind: AddrInUse, message: \
         \"Address already in use\" }",
        InUse,
        None,
    );
    check(
        "error: cannot listen on 127.0.0.1:43877: Address already in use (os error 98)",
        InUse,
        43877,
    );
    // From issue trackers: macOS, a logger that prints JSON; Rancher, healer.
    check(
        "Listener should be created: Os { code: 48, kind: AddrInUse, message: \"Address already in \
         use\" }",
        InUse,
        None,
    );
    check("Address already in use (os error 48)", InUse, None);
    check(
        r#"{"timestamp":"2026-01-27T16:24:16.749179+08:00","level":"ERROR","fields":{"message":"Server encountered an error and is shutting down: Address already in use (os error 48)"},"target":"rustfs","filename":"rustfs/src/main.rs","line_number":81,"threadName":"main"}"#,
        InUse,
        None,
    );
    check("Error listen tcp 0.0.0.0:5432: bind: address already in use", InUse, 5432);
    check("Fail to listen on 127.0.0.1:4103: Address already in use (os error 98)", InUse, 4103);
}

#[test]
fn java_and_dotnet_whose_port_is_in_use() {
    // Java 17: a socket, jdk.httpserver; Java 25: `java -m jdk.httpserver`, on stdout.
    check(
        "Exception in thread \"main\" java.net.BindException: Address already in use\n\tat \
         java.base/sun.nio.ch.Net.bind0(Native Method)\n\tat \
         java.base/sun.nio.ch.Net.bind(Net.java:555)\n\tat S.main(S.java:5)",
        InUse,
        None,
    );
    check(
        "Exception in thread \"main\" java.lang.RuntimeException: Could not start the server\n\tat \
         S.main(S.java:4)\nCaused by: java.net.BindException: Address already in use",
        InUse,
        None,
    );
    check(
        "Error: server config failed: java.net.BindException: Address already in use",
        InUse,
        None,
    );
    // From issue trackers: Spring Boot 3, 2.6 and 2.0, Jetty 9, Tomcat 7, Elasticsearch 1.7.
    check(
        "***************************\nAPPLICATION FAILED TO START\n***************************\n\n\
         Description:\n\nWeb server failed to start. Port 8080 was already in use.\n\nAction:\n\n\
         Identify and stop the process that's listening on port 8080 or configure this application to \
         listen on another port.",
        InUse,
        8080,
    );
    check(
        "org.springframework.boot.web.server.PortInUseException: Port 8080 is already in use",
        InUse,
        8080,
    );
    check(
        "The Tomcat connector configured to listen on port 8080 failed to start. The port may already \
         be in use or the connector may be misconfigured.",
        InUse,
        8080,
    );
    check(
        "2013-09-01 18:41:27.021:WARN:oejuc.AbstractLifeCycle:FAILED \
         SelectChannelConnector@0.0.0.0:8080: java.net.BindException: Address already in use",
        InUse,
        8080,
    );
    let stack = "\tat org.eclipse.jetty.server.ServerConnector.open(ServerConnector.java:308)\n";
    check(
        &format!(
            "java.io.IOException: Failed to bind to 0.0.0.0/0.0.0.0:8443\n{}Caused by: \
             java.net.BindException: Address already in use\n{stack}",
            stack.repeat(30)
        ),
        InUse,
        8443,
    );
    check(
        "Error binding monitor port 9999: java.net.BindException: Address already in use",
        InUse,
        9999,
    );
    check(
        "SEVERE: Failed to initialize end point associated with ProtocolHandler [\"http-bio-8080\"]\n\
         java.net.BindException: Address already in use (Bind failed) <null>:8080",
        InUse,
        8080,
    );
    check(
        "BindTransportException[Failed to bind to [9501]]; nested: ChannelException[Failed to bind to: \
         /127.0.0.1:9501]; nested: BindException[Address already in use];",
        InUse,
        9501,
    );
    // From issue trackers: ASP.NET Core 3 and 2, .NET on Windows, IIS Express, HTTP.SYS.
    check(
        "crit: Microsoft.AspNetCore.Server.Kestrel[0]\n      Unable to start Kestrel.\n\
         System.IO.IOException: Failed to bind to address http://127.0.0.1:5000: address already in \
         use.\n ---> Microsoft.AspNetCore.Connections.AddressInUseException: Address already in use\n \
         ---> System.Net.Sockets.SocketException (98): Address already in use",
        InUse,
        5000,
    );
    check(
        "System.IO.IOException: Failed to bind to address http://localhost:1146 on the IPv4 loopback \
         interface: port already in use. ---> System.AggregateException: One or more errors occurred. \
         (Error -4091 EADDRINUSE address already in use)",
        InUse,
        1146,
    );
    check(
        "System.Net.HttpListenerException (0x80004005): Failed to listen on prefix 'http://+:20800/' \
         because it conflicts with an existing registration on the machine.",
        InUse,
        20800,
    );
    check(
        "Failed to register URL \"http://localhost:56481/\" for site \"MB5.Server\" application \"/\". \
         Error description: The process cannot access the file because it is being used by another \
         process. (0x80070020)",
        InUse,
        56481,
    );
    check("An error occurred launching IIS Express. Port '80' is in use.", InUse, 80);
}

#[test]
fn others_whose_port_is_in_use() {
    // PHP 8.2; Ruby 3.1: a socket and Puma 5.6, WEBrick 1.8; Perl 5.36; Erlang 25 (on stdout): a
    // match, a value, epmd.
    check(
        "[Sat Nov 21 15:31:17 2026] Failed to listen on 127.0.0.1:43877 (reason: Address already in \
         use)",
        InUse,
        43877,
    );
    check(
        "/usr/lib/puma-5.6.5/lib/puma/binder.rb:341:in `initialize': Address already in use - bind(2) \
         for \"127.0.0.1\" port 43877 (Errno::EADDRINUSE)\n\tfrom \
         /usr/lib/puma-5.6.5/lib/puma/binder.rb:341:in `new'",
        InUse,
        43877,
    );
    check(
        "/usr/lib/ruby/3.1.0/socket.rb:201:in `bind': Address already in use - bind(2) for \
         127.0.0.1:43877 (Errno::EADDRINUSE)",
        InUse,
        43877,
    );
    check(
        "cannot listen on port 43877: IO::Socket::INET: Address already in use at -e line 1.",
        InUse,
        43877,
    );
    check(
        "{\"init terminating in do_boot\",{{badmatch,{error,eaddrinuse}},[{erl_eval,expr,6,[{file,\
         \"erl_eval.erl\"},{line,496}]},{init,start_it,1,[]}]}}",
        InUse,
        None,
    );
    check("{error,eaddrinuse}", InUse, None);
    check(
        "                     {listen,eaddrinuse}}}}},\n     {child,undefined,\n             \
         [[{bind_address,{127,0,0,1}},\n               {port,43877},\n               \
         {server_name,\"x\"},",
        InUse,
        43877,
    );
    check(
        "epmd: Sat Nov 21 15:32:02 2026: there is already a epmd running at port 43877 on ipaddr \
         127.0.0.1",
        InUse,
        43877,
    );
    // From issue trackers: Ruby on Alpine, Ranch (MongooseIM, RabbitMQ), Phoenix, MySQL, MongoDB 3.2
    // and 4, Bedrock.
    check("Address in use - bind(2) for \"0.0.0.0\" port 3030 (Errno::EADDRINUSE)", InUse, 3030);
    check(
        "15:48:52.566 [error] Failed to start Ranch listener 'ejabberd_cowboy_127.0.0.1_8088' in \
         ranch_tcp:listen([{port,8088},{ip,{127,0,0,1}}]) for reason eaddrinuse (address already in \
         use)",
        InUse,
        8088,
    );
    check("** (EXIT) {:listen_error, HelloPhoenix.Endpoint.HTTP, :eaddrinuse}", InUse, None);
    check(
        "[error] Running Chat.Endpoint with Cowboy on http://localhost:4000 failed, port already in \
         use",
        InUse,
        4000,
    );
    check(
        "2019-07-17 00:07:39 23162 [ERROR] Can't start server: Bind on TCP/IP port: Address already in \
         use\n2019-07-17 00:07:39 23162 [ERROR] Do you already have another mysqld server running on \
         port: 3306 ?",
        InUse,
        3306,
    );
    check(
        "2016-05-07T09:32:14.719+0100 E NETWORK  [initandlisten] listen(): bind() failed errno:48 \
         Address already in use for socket: 0.0.0.0:27017",
        InUse,
        27017,
    );
    check(
        "2019-04-03T09:59:05.833+0200 E STORAGE  [initandlisten] Failed to set up listener: \
         SocketException: Address already in use",
        InUse,
        None,
    );
    check(
        "Failed to open TCP port 'localhost:3306': couldn't bind(errno=98 'Address already in use')",
        InUse,
        3306,
    );
    // From Docker's and its users' issue trackers.
    check(
        "Error response from daemon: driver failed programming external connectivity on endpoint web \
         (5493922010cb73): Bind for 0.0.0.0:8080 failed: port is already allocated",
        InUse,
        8080,
    );
    check(
        "Error starting userland proxy: Bind for 0.0.0.0:80: unexpected error (Failure EADDRINUSE)",
        InUse,
        80,
    );
    check(
        "Error starting userland proxy: listen tcp 0.0.0.0:80: bind: address already in use.",
        InUse,
        80,
    );
    check(
        "Error response from daemon: Ports are not available: exposing port TCP 0.0.0.0:5432 -> \
         127.0.0.1:0: listen tcp 0.0.0.0:5432: bind: address already in use",
        InUse,
        5432,
    );
}

/// From issue trackers: Go, Python (also in Chinese and Spanish), PHP, .NET, Docker on Windows; Node,
/// which has one word for what is excluded and what takes a privilege.
#[test]
fn windows() {
    check(
        "listen tcp 127.0.0.1:2080: bind: Only one usage of each socket address (protocol/network \
         address/port) is normally permitted.",
        InUse,
        2080,
    );
    check(
        "OSError: [Errno 10048] error while attempting to bind on address ('127.0.0.1', 5001): only \
         one usage of each socket address (protocol/network address/port) is normally permitted",
        InUse,
        5001,
    );
    check(
        "ERROR:    [Errno 10048] error while attempting to bind on address ('127.0.0.1', 8502): \
         通常每个套接字地址(协议/网络地址/端口)只允许使用一次。",
        InUse,
        8502,
    );
    check(
        "OSError: [WinError 10048] Solo se permite un uso de cada dirección de socket \
         (protocolo/dirección de red/puerto)",
        InUse,
        None,
    );
    check(
        "socket_bind(): unable to bind address [10048]: Only one usage of each socket address \
         (protocol/network address/port) is normally permitted.\n[SEVERE] Couldn't bind to \
         0.0.0.0:19132",
        InUse,
        19132,
    );
    check(
        "Unhandled Exception:\nSystem.Net.Sockets.SocketException (0x80004005): Only one usage of each \
         socket address (protocol/network address/port) is normally permitted.",
        InUse,
        None,
    );
    check(
        "listen udp 192.168.1.4:56053: bind: Only one usage of each socket address (protocol/network \
         address/port) is normally permitted.",
        InUse,
        56053,
    );
    check(
        "System.Net.Sockets.SocketException (10013): \
         以一种访问权限不允许的方式做了一个访问套接字的尝试。",
        Excluded,
        None,
    );
    check(
        "Ports are not available: exposing port TCP 0.0.0.0:5432 -> 127.0.0.1:0: listen tcp \
         0.0.0.0:5432: bind: Only one usage of each socket address (protocol/network address/port) is \
         normally permitted.",
        InUse,
        5432,
    );
    check(
        "listen tcp :50051: bind: An attempt was made to access a socket in a way forbidden by its \
         access permissions.",
        Excluded,
        50051,
    );
    check(
        "OSError: [WinError 10013] An attempt was made to access a socket in a way forbidden by its \
         access permissions",
        Excluded,
        None,
    );
    check(
        "failed to listen on tcp://0.0.0.0:11010 Caused by: 0: io error 2: \
         以一种访问权限不允许的方式做了一个访问套接字的尝试。 (os error 10013)",
        Excluded,
        11010,
    );
    check(
        "NT: ERROR: bind() to port 1735 failed: An attempt was made to access a socket in a way \
         forbidden by its access permissions. (TCPAccepter.cpp:118)",
        Excluded,
        1735,
    );
    check("Error: listen EACCES: permission denied 0.0.0.0:5037", Excluded, 5037);
    check("Error: listen EACCES: permission denied ::1:1420", Excluded, 1420);
    check(
        "Failed to register URL \"http://localhost:63293/\" for site \"Development Web Site\" \
         application \"/\". Error description: Access is denied. (0x80070005)",
        Excluded,
        63293,
    );
}

/// What the same servers, run as nobody, printed of port 80.
#[test]
fn ports_that_take_a_privilege() {
    check(
        "Error: listen EACCES: permission denied 127.0.0.1:80\n    at Server.setupListenHandle",
        NotPermitted,
        80,
    );
    check(
        "error: permission denied 127.0.0.1:80\n syscall: \"listen\",\n   errno: 0,\n    code: \
         \"EACCES\"",
        NotPermitted,
        80,
    );
    check(
        "error: Uncaught (in promise) PermissionDenied: Permission denied (os error 13)\n\
         Deno.serve({port:+Deno.args[0],hostname:'127.0.0.1'},()=>new Response('x'))\n     ^\n    \
         at listen (ext:deno_net/01_net.js:1:7011)",
        NotPermitted,
        None,
    );
    check(
        "13657:M 21 Nov 2026 15:32:54.692 # Warning: Could not create server TCP listening socket \
         127.0.0.1:80: bind: Permission denied",
        NotPermitted,
        80,
    );
    check(
        "2026/11/21 15:32:54 [emerg] 13658#13658: bind() to 127.0.0.1:80 failed (13: Permission \
         denied)",
        NotPermitted,
        80,
    );
    check("bind(): Permission denied", NotPermitted, None); // memcached
    check(
        "[ALERT]    (13670) : Binding [/srv/ha.cfg:7] for frontend f: cannot bind socket (Permission \
         denied) for [127.0.0.1:80]",
        NotPermitted,
        80,
    );
    check(
        "1795275174: Opening ipv4 listen socket on port 80.\n\
         1795275174: If you are trying to bind to a privileged port (<1024), try using setcap and do \
         not start the broker as root:\n\
         1795275174:     sudo setcap 'CAP_NET_BIND_SERVICE=+ep /usr/sbin/mosquitto'\n\
         1795275174: Error: Permission denied",
        NotPermitted,
        80,
    );
    check(
        "[Sat Nov 21 15:33:00 2026] Failed to listen on 127.0.0.1:80 (reason: Permission denied)",
        NotPermitted,
        80,
    );
    check("2026/11/21 15:33:00 listen tcp 127.0.0.1:80: bind: permission denied", NotPermitted, 80);
    check(
        "error: cannot listen on 127.0.0.1:80: Permission denied (os error 13)",
        NotPermitted,
        80,
    );
    check(
        "Exception in thread \"main\" java.net.BindException: Permission denied\n\tat \
         java.base/sun.nio.ch.Net.bind0(Native Method)",
        NotPermitted,
        None,
    );
    check(
        "/usr/lib/puma-5.6.5/lib/puma/binder.rb:341:in `initialize': Permission denied - bind(2) for \
         \"127.0.0.1\" port 80 (Errno::EACCES)",
        NotPermitted,
        80,
    );
    check(
        "(13)Permission denied: AH00072: make_sock: could not bind to address 127.0.0.1:80",
        NotPermitted,
        80,
    );
    check(
        "dnsmasq: failed to create listening socket for 127.0.0.1: Permission denied",
        NotPermitted,
        None,
    );
    check(
        "    sock.bind(binding)\nPermissionError: [Errno 13] Permission denied",
        NotPermitted,
        None,
    );
    check(
        "PermissionError: [Errno 13] error while attempting to bind on address ('127.0.0.1', 80): \
         permission denied",
        NotPermitted,
        80,
    );
    check("Error: You don't have permission to access that port.", NotPermitted, None); // Django
    check("Port 80 requires elevated privileges", NotPermitted, 80); // Express' generator
    // From Docker's and Podman's users' issue trackers: without root.
    check(
        "error while calling RootlessKit PortManager.AddPort(): cannot expose privileged port 80, you \
         can add 'net.ipv4.ip_unprivileged_port_start=80' to /etc/sysctl.conf (currently 1024), or set \
         CAP_NET_BIND_SERVICE on rootlesskit binary, or choose a larger port number (>= 1024): listen \
         tcp4 0.0.0.0:80: bind: permission denied",
        NotPermitted,
        80,
    );
    check(
        "Error: rootlessport cannot expose privileged port 80, you can add \
         'net.ipv4.ip_unprivileged_port_start=80' to /etc/sysctl.conf (currently 1024)",
        NotPermitted,
        80,
    );
}

/// The words are there, and something else is meant. Who is named beside a line printed it, according
/// to an issue tracker; the others are made up for the border, here and below.
#[test]
fn what_is_in_use_is_no_port() {
    none("");
    none("memory in use: 80");
    none("Memory in use: 12345 kB of 65536 kB");
    none("heap: 42 MB in use, 128 MB reserved");
    none("the cache is in use by worker 3");
    none("lock file already in use");
    none("Error: database file is in use by another process");
    none("WARNING: Default (insecure) Erlang cookie is in use."); // EMQX
    none("ERROR: the specified log seems to be in use already."); // Atomikos
    none("java.lang.RuntimeException: Log already in use?");
    none(
        "Conflict. The container name \"/rest-server\" is already in use by container \
         \"e424e1d93e83d2\". You have to remove (or rename) that container to be able to reuse that \
         name.",
    ); // Docker
    none("WARNING: Host is already in use by another container"); // Docker
    none("Error mounting: device or resource busy");
    none("fatal: worktree 'main' is already in use at '/srv/main'");
    none("username is already taken");
    none("Port names must be unique: \"http\" is already taken");
    none("That email address is already in use");
    none("email address already in use");
    none("wlan0: duplicate IP address already in use");
    none("Serial port 3 is already in use");
    none("Port COM3 is already in use");
    none("3000 connections in use");
    none("ports in use: 3000 3001");
    none("port in use: 3000");
    none("The process cannot access the file 'a.dll' because it is being used by another process.");
    none("2026-11-21 15:31:17.048 UTC [10048] LOG:  database system is ready");
    none("10048 rows imported, 10013 skipped");
    none("worker 10013 started");
}

/// A port that serves, or is used as somebody wants it. Where the border is: `already`, or that
/// nobody knows by whom, makes it a trouble; a name does not.
#[test]
fn a_port_that_is_in_use_is_no_trouble() {
    none("listening on port 3000");
    none("Server is running on port 3000");
    none("INFO:     Uvicorn running on http://127.0.0.1:34629 (Press CTRL+C to quit)");
    none("port 22 is in use by sshd (expected)");
    none("port 8080 is in use by the proxy, as configured");
    none("Port 9100 is in use for metrics");
    none("port 80 is used for redirects only");
    none("port 80 is used");
    none("server: port 3000 is bound");
    none("port 3000 is not in use");
    none("Port 3000 is no longer in use");
    none("Checking whether port 3000 is in use");
    none("checking if port 3000 is already in use...");
    none("If port 3000 is already in use, set PORT");
    none("waiting until port 3000 is taken");
    none("port 20017 was taken from the lease");
    none("Is port 3000 in use? no");
    none("using port 3000 instead of the default");
    none("PORT=3000");
    check("Port 22 is already in use by sshd", InUse, 22);
    check("Port 43877 is in use by a different process", InUse, 43877);
    check("Error: port 3000 in use", InUse, 3000);
    check("Port 3000 on 127.0.0.1 is already in use", InUse, 3000);
    check("Port 3000 on localhost is already in use", InUse, 3000);
    check("Port number 3000 is already in use", InUse, 3000);
    check("http://my-host:3000 is already in use", InUse, 3000);
    none("the name main.go:3000 is already in use");
    none("another server is running with pid 3000");
    none("another server is running on core 3");
    none("another of the old workers has pid 3000");
    check("tcp port 8080 already taken", InUse, 8080);
}

/// The words of the error are there, and it did not happen, or not to a listener.
#[test]
fn an_error_that_is_no_ports() {
    // Of a client: it has no local port left, or may not go there.
    none("Error: connect EADDRINUSE 127.0.0.1:8080 - Local (127.0.0.1:0)");
    none("Error dialing peer: /ip4/127.0.0.1/tcp/21000: Address already in use (os error 48)"); // Malachite
    none("dial tcp 10.0.0.1:80: connect: permission denied");
    none(
        "Failed to establish a new connection: [WinError 10013] An attempt was made to access a \
         socket in a way forbidden by its access permissions",
    );
    none("Error: connect ECONNREFUSED 127.0.0.1:5432");
    none("bind() to 10.0.0.1:80 failed (99: Cannot assign requested address)");
    // Of a socket file, or a pipe.
    none("nginx: [emerg] bind() to unix:/run/app.sock failed (98: Address already in use)");
    none("listen unix /run/app.sock: bind: address already in use");
    none("LOG:  could not bind Unix address \"/tmp/.s.PGSQL.5432\": Address already in use");
    none(
        "Error: listen EADDRINUSE: address already in use /run/app\n    at Server.listen {\n  \
         code: 'EADDRINUSE',\n  errno: -98,\n  syscall: 'listen',\n  address: '/run/app',\n  port: -1",
    );
    none(r"Error: listen EADDRINUSE: address already in use \\.\pipe\app");
    none("Error: listen EACCES: permission denied /run/app.sock");
    none("cannot listen on run/app.sock: Address already in use");
    // Of files and users.
    none("Error: EACCES: permission denied, open '/etc/shadow'");
    none("PermissionError: [Errno 13] Permission denied: '/var/log/app.log'");
    none("listening on port 3000\nEACCES: permission denied, mkdir '/data'");
    none("open /etc/app.key: permission denied");
    none("mkdir: cannot create directory '/data': Permission denied");
    none("Error: Os { code: 13, kind: PermissionDenied, message: \"Permission denied\" }");
    none("error mounting /data: bind: permission denied");
    none("git@127.0.0.1: Permission denied (publickey).");
    none("ssh: connect to host 127.0.0.1 port 22: Permission denied");
    none("Permission denied");
    none("Access is denied.");
    // gunicorn as nobody, of port 80: it does not say why.
    none("[2026-11-21 15:32:59 +0000] [13604] [ERROR] Can't connect to ('127.0.0.1', 80)");
    none("{error,eacces}");
    // Not happened.
    none("SO_REUSEADDR is set to avoid 'address already in use'");
    none("If you see EADDRINUSE, choose another port");
    none("test handles EADDRINUSE ... ok");
    none("see https://example.com/docs/eaddrinuse");
    none("at test/eaddrinuse.test.js:3:1");
    none("loaded eaddrinuse.js, eaddrinuse-handler and eaddrinuse_total");
}

#[test]
fn the_port_is_that_of_the_complaint() {
    check(
        "proxy to http://10.0.0.1:9000: listen tcp :8080: bind: address already in use",
        InUse,
        8080,
    );
    check(
        "listen tcp :8080: bind: address already in use; is http://localhost:9000 running?",
        InUse,
        8080,
    );
    check(
        "metrics listening on :9100\n\n\n\n\nOSError: [Errno 98] Address already in use",
        InUse,
        None,
    );
    check("on behalf of port 9100\nOSError: [Errno 98] Address already in use.", InUse, None);
    check("12:30:45 [4242] main.go:513: EADDRINUSE", InUse, None);
    check("EADDRINUSE 98", InUse, None);
    check("EADDRINUSE 65536", InUse, None);
    check("address already in use 0.0.0.0:0", InUse, None);
}

#[test]
fn of_several_complaints_the_one_that_says_most_counts() {
    let line = |output: &str| complaint(output).map(|found| (found.port, found.line));
    let is = |port: u16, line: &str| Some((Some(port), line.to_owned()));
    let first = "listen tcp :80: bind: address already in use";
    let second = "listen tcp :81: bind: address already in use";
    assert_eq!(line(&format!("{first}\n{second}")), is(80, first));
    let without = format!("Address already in use\n{}{second}\n", "at x\n".repeat(100));
    assert_eq!(line(&without), is(81, second));
    let named = "Caused by: BindException: Address already in use";
    assert_eq!(line(&format!("{named}\nAddress already in use")), Some((None, named.to_owned())));
    let files = "open /etc/app.key: permission denied\npermission denied\n".repeat(100);
    assert_eq!(line(&format!("{files}{second}")), is(81, second));
    let went_on = "Port 80 is in use, trying another one...";
    assert_eq!(line(&format!("{went_on}\n{second}")), is(81, second));
    assert_eq!(line(&format!("  \x1b[33m{went_on}\x1b[0m\r\nready")), is(80, went_on));
    let tried = "trying port 80: error 10048";
    assert_eq!(line(&format!("{tried}\nerror 10048")), is(80, tried));
}

#[test]
fn it_ends_and_the_line_is_bounded() {
    let long = format!("EADDRINUSE {}", "é".repeat(100_000));
    assert_eq!(complaint(&long).map(|found| found.line.chars().count()), Some(MAX_KEPT));
    none(&format!("{}EADDRINUSE", "é".repeat(LONGEST)));
    // Around one that is said for ever, no port is looked for.
    check(&format!("{}  port: 3000", "EADDRINUSE\n".repeat(MAX_LOOKS_AROUND)), InUse, 3000);
    check(&format!("{}  port: 3000", "EADDRINUSE\n".repeat(MAX_LOOKS_AROUND + BELOW)), InUse, None);
    for part in [
        "email address already in use ",
        "bind Address already in use\n",
        "]:1",
        "port is in use ",
        "port 1 is if in use ",
        "('",
        "on :1 in use ",
        "unix EADDRINUSE\n",
        "permission denied\n",
    ] {
        // As much as is kept of a server's output.
        let _ = complaint(&part.repeat(64 * 1024 / part.len()));
        let _ = complaint(&format!("unix EADDRINUSE {}", part.repeat(64 * 1024 / part.len())));
        let lines = format!("unix bind EADDRINUSE {}\n", part.repeat(2000 / part.len()));
        let _ = complaint(&lines.repeat(32));
    }
}

/// Text in which there is much to be found, and to be mistaken.
fn output() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "EADDRINUSE",
            "address",
            "already",
            "in use",
            "is",
            "port",
            "Port 3000",
            "by",
            "another",
            "permission denied",
            "EACCES",
            "10048",
            "10013",
            "error",
            "listen",
            "bind",
            "failed",
            "connect",
            "unix",
            "/",
            ":",
            "::",
            "127.0.0.1",
            "localhost",
            "[",
            "]",
            "('",
            "', ",
            "{",
            "}",
            "{port,",
            "port: ",
            "code: ",
            "http://",
            "\n",
            "\n",
            "\r\n",
            " ",
            " ",
            ". ",
            "\x1b[",
            "\x1b",
            "m",
            "80",
            "8080",
            "65536",
            "é",
            "running on port",
            "trying",
            "if",
            "not",
            "'",
            "used",
            "taken",
            "only one usage of each socket address",
            "(Bind failed) ",
        ])
        .prop_map(str::to_owned),
        any::<u32>().prop_map(|number| number.to_string()),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    /// The port is a number of the output, and the line is a part of one of its lines.
    #[test]
    fn what_is_found_was_said(output in output()) {
        if let Some(found) = complaint(&output) {
            let plain: Vec<String> = output.lines().map(readable).collect();
            let numbers: Vec<_> =
                plain.iter().flat_map(|line| line.split(|c: char| !c.is_ascii_digit())).collect();
            if let Some(port) = found.port {
                prop_assert!(port != 0 && numbers.contains(&port.to_string().as_str()));
            }
            prop_assert!(plain.iter().any(|line| text::kept(line, MAX_KEPT) == found.line));
        }
    }

    #[test]
    fn any_text_is_survived(output in any::<String>()) {
        let _ = complaint(&output);
    }

    /// No harmless lines around it hide a complaint.
    #[test]
    fn it_is_found_among_any_lines(
        mut lines in prop::collection::vec("[a-zA-Z ]{0,40}", 0..20),
        at in any::<prop::sample::Index>(),
    ) {
        let said = "listen tcp :8080: bind: address already in use";
        lines.insert(at.index(lines.len() + 1), said.to_owned());
        let found = complaint(&lines.join("\n"));
        prop_assert_eq!(found.and_then(|found| found.port), Some(8080));
    }
}
