use proptest::prelude::*;

use super::*;
use Rank::{Json, Phrase, Url, Variable};

/// What servers print when they are ready, each with all that it reports.
const STARTED: &[(Rank, u16, &str)] = &[
    // By agreement.
    (Variable, 40123, "PORT=40123"),
    (Variable, 1, "  PORT=1\r"),
    (Variable, 65535, "PORT=65535"),
    (Variable, 1234, "Listening PORT=1234"),
    (Variable, 8080, "export PORT='8080'"),
    (Variable, 80, "PORT=80 80"),
    // Python: http.server, uvicorn, gunicorn, Flask, hypercorn, waitress, daphne, granian, aiohttp,
    // Sanic, FastAPI, Jupyter, Streamlit, mitmproxy, MkDocs, Django, asyncio's example.
    (Url, 39401, "Serving HTTP on 127.0.0.1 port 39401 (http://127.0.0.1:39401/) ..."),
    (Url, 37095, "Serving HTTP on ::1 port 37095 (http://[::1]:37095/) ..."),
    (Phrase, 36487, "Serving HTTP on 0.0.0.0 port 36487 ..."),
    (Url, 34629, "INFO:     Uvicorn running on http://127.0.0.1:34629 (Press CTRL+C to quit)"),
    (
        Url,
        35145,
        "[2026-11-21 11:25:29 +0000] [28504] [INFO] Listening at: http://127.0.0.1:35145 (28504)",
    ),
    (Url, 35061, " * Running on http://127.0.0.1:35061"),
    (
        Url,
        33255,
        "[2026-11-21 11:25:36 +0000] [28594] [INFO] Running on http://127.0.0.1:33255 \
         (CTRL + C to quit)",
    ),
    (Url, 24021, "INFO:waitress:Serving on http://127.0.0.1:24021"),
    (
        Phrase,
        24022,
        "2026-11-21 11:25:42,447 INFO     Starting server at tcp:port=24022:interface=127.0.0.1",
    ),
    (Phrase, 24022, "2026-11-21 11:25:42,448 INFO     Listening on TCP address 127.0.0.1:24022"),
    (Url, 24023, "[INFO] Listening at: http://127.0.0.1:24023"),
    (Url, 46527, "======== Running on http://127.0.0.1:46527 ========"),
    (Url, 24024, "Main  2026-11-21 11:25:42 +0000 INFO: Goin' Fast @ http://127.0.0.1:24024"),
    (Url, 24025, " 🌐 Server started at http://127.0.0.1:24025"),
    (
        Url,
        24026,
        "[I 2026-11-21 11:25:50.670 ServerApp] http://localhost:24026/?token=c9b75ac817bf",
    ),
    (Phrase, 24027, "2026-11-21 11:25:49.485 Uvicorn server started on 127.0.0.1:24027"),
    (Url, 24027, "  URL: http://127.0.0.1:24027"),
    (Phrase, 53793, "[11:25:55.310] HTTP(S) proxy listening at 127.0.0.1:53793."),
    (Url, 24030, "INFO    -  [11:25:55] Serving on http://127.0.0.1:24030/"),
    (Url, 37247, "Starting development server at http://127.0.0.1:37247/"),
    (
        Phrase,
        34161,
        "Serving on ('127.0.0.1', 34161) <socket.socket fd=3, family=2, type=1, proto=0, \
         laddr=('127.0.0.1', 34161)>",
    ),
    (Phrase, 8888, "Serving on ('::1', 8888, 0, 0)"),
    // Node, Express, Fastify, Nest, Vite, http-server, json-server, serve, webpack, Next.js,
    // Parcel, live-server, Prism, Angular, Storybook, Wrangler, Bun, Deno.
    (Phrase, 45977, "Server is running on { address: '127.0.0.1', family: 'IPv4', port: 45977 }"),
    (Phrase, 44155, "{ address: '127.0.0.1', family: 'IPv4', port: 44155 }"),
    (Phrase, 44155, "  port: 44155"),
    (Phrase, 45977, "Example app listening on port 45977"),
    (Phrase, 3000, "Listening on :::3000"),
    (Phrase, 3000, "listening on 3000"),
    (Phrase, 3000, "Express server listening on port 3000 in development mode"),
    (Phrase, 3000, "Connected to MongoDB, server listening on port 3000"),
    (Phrase, 3000, "🚀 Server ready on port: 3000"),
    (Url, 4000, "🚀  Server ready at: http://localhost:4000/"),
    (
        Url,
        37061,
        r#"{"level":30,"time":1795260360780,"pid":29055,"hostname":"vm","msg":"Server listening at http://127.0.0.1:37061"}"#,
    ),
    (
        Url,
        24032,
        "  \x1b[32m➜\x1b[39m  \x1b[1mLocal\x1b[22m:   \x1b[36mhttp://127.0.0.1:\x1b[1m24032\x1b[22m/\x1b[39m",
    ),
    (Url, 24033, "  http://127.0.0.1:24033"),
    (Url, 24034, "  http://127.0.0.1:24034/posts"),
    (Url, 24035, " INFO  Accepting connections at http://127.0.0.1:24035"),
    (Url, 24036, "<i> [webpack-dev-server] Loopback: http://127.0.0.1:24036/"),
    (Url, 24037, "- Local:         http://127.0.0.1:24037"),
    (Url, 3000, "ready - started server on 0.0.0.0:3000, url: http://localhost:3000"),
    (Url, 24038, "Server running at http://127.0.0.1:24038"),
    (Url, 24039, "\x1b[32mServing \"/srv/admin/app\" at http://127.0.0.1:24039\x1b[39m"),
    (Url, 24040, " Local: http://127.0.0.1:24040"),
    (Url, 24041, "[11:26:20 AM] › [CLI] ▶  start     Prism is listening on http://127.0.0.1:24041"),
    (
        Url,
        4200,
        "** Angular Live Development Server is listening on localhost:4200, open your browser on \
         http://localhost:4200/ **",
    ),
    (Url, 6006, "│   Local:            http://localhost:6006/               │"),
    (Url, 8787, "[wrangler:inf] Ready on http://localhost:8787"),
    (Url, 39515, "Listening on http://127.0.0.1:39515/"),
    (Url, 8000, "Listening on http://[::]:8000/"),
    (Url, 8000, "Server running at http://:::8000"),
    // PHP, Ruby: WEBrick, Puma, Thin.
    (
        Url,
        24042,
        "[Sat Nov 21 11:26:24 2026] PHP 8.2.36 Development Server (http://127.0.0.1:24042) started",
    ),
    (Phrase, 32967, "[2026-11-21 11:27:07] INFO  WEBrick::HTTPServer#start: pid=32175 port=32967"),
    (Url, 3000, "* Listening on http://127.0.0.1:3000"),
    (Phrase, 9292, "* Listening on tcp://0.0.0.0:9292"),
    (Phrase, 4567, "Listening on 0.0.0.0:4567, CTRL+C to stop"),
    // Java: the JDK, Spring Boot, Tomcat, Jetty, Netty, Quarkus, Micronaut, WireMock, Kafka,
    // ZooKeeper, Elasticsearch.
    (Phrase, 46113, "Server started on /127.0.0.1:46113"),
    (Phrase, 37535, "Listening: ServerSocket[addr=0.0.0.0/0.0.0.0,localport=37535]"),
    (Phrase, 8080, "Tomcat started on port(s): 8080 (http) with context path ''"),
    (
        Phrase,
        8080,
        "2026-11-21T11:26:24.565Z  INFO 1 --- [  main] o.s.b.w.embedded.tomcat.TomcatWebServer  : \
         Tomcat started on port 8080 (http) with context path '/'",
    ),
    (Phrase, 8080, "INFO: Starting ProtocolHandler [\"http-nio-8080\"] on port 8080"),
    (
        Phrase,
        8080,
        "2026-11-21 11:26:24.565:INFO:oejs.AbstractConnector:main: Started \
         ServerConnector@1f2e3d{HTTP/1.1, (http/1.1)}{0.0.0.0:8080}",
    ),
    (Phrase, 8080, "o.s.b.web.embedded.netty.NettyWebServer  : Netty started on port 8080"),
    (Phrase, 8080, "[id: 0x5c3f, L:/0:0:0:0:0:0:0:0:8080] ACTIVE, listening"),
    (
        Url,
        8080,
        "2026-11-21 11:26:24,565 INFO  [io.quarkus] (main) app 1.0.0 on JVM (powered by Quarkus \
         3.8.1) started in 1.234s. Listening on: http://0.0.0.0:8080",
    ),
    (
        Url,
        8080,
        "11:26:24.565 [main] INFO  io.micronaut.runtime.Micronaut - Startup completed in 512ms. Server Running: http://localhost:8080",
    ),
    (
        Phrase,
        9092,
        "[2026-11-21 11:26:24,565] INFO Awaiting socket connections on 0.0.0.0:9092. (kafka.network.DataPlaneAcceptor)",
    ),
    (
        Phrase,
        2181,
        "INFO binding to port 0.0.0.0/0.0.0.0:2181 (org.apache.zookeeper.server.NIOServerCnxnFactory)",
    ),
    (
        Phrase,
        9200,
        "[2026-11-21T11:26:24,565][INFO ][o.e.h.AbstractHttpServerTransport] [node-1] publish_address {127.0.0.1:9200}, bound_addresses {[::1]:9200}, {127.0.0.1:9200}",
    ),
    // .NET, Elixir, Erlang.
    (Url, 5000, "      Now listening on: http://localhost:5000"),
    (Url, 5000, "      Now listening on: http://[::]:5000"),
    (Url, 4000, "[info] Access HelloWeb.Endpoint at http://localhost:4000"),
    (Phrase, 4000, "[info] Running HelloWeb.Endpoint with cowboy 2.10.0 at 127.0.0.1:4000 (http)"),
    (Phrase, 5672, "2026-11-21 11:26:24.565 [info] <0.592.0> started TCP listener on [::]:5672"),
    // Rust: Rocket, actix, axum, warp, tracing as text and as JSON.
    (Url, 8000, "🚀 \x1b[1mRocket has launched from\x1b[0m http://127.0.0.1:8000"),
    (Phrase, 8000, "   >> port: 8000"),
    (
        Phrase,
        8080,
        "[INFO  actix_server::server] starting service: \"actix-web-service-127.0.0.1:8080\", \
         workers: 2, listening on: 127.0.0.1:8080",
    ),
    (Phrase, 3000, "listening on 127.0.0.1:3000"),
    (Phrase, 3000, "listening on Ok(127.0.0.1:3000)"),
    (
        Phrase,
        3000,
        "\x1b[2m2026-11-21T11:26:24.565000Z\x1b[0m \x1b[32m INFO\x1b[0m \x1b[2mapp\x1b[0m\x1b[2m:\x1b[0m listening \x1b[3maddr\x1b[0m\x1b[2m=\x1b[0m0.0.0.0:3000",
    ),
    (
        Url,
        3030,
        "INFO Server::run{addr=127.0.0.1:3030}: warp::server: listening on http://127.0.0.1:3030",
    ),
    (
        Phrase,
        3000,
        r#"{"timestamp":"2026-11-21T11:26:24Z","level":"INFO","fields":{"message":"listening on 127.0.0.1:3000"},"target":"app"}"#,
    ),
    (
        Json,
        3000,
        r#"{"timestamp":"2026-11-21T11:26:24Z","level":"INFO","fields":{"message":"listening","addr":"127.0.0.1:3000"},"target":"app"}"#,
    ),
    // Go: the usual lines, gin, echo, slog, zap, logrus, klog.
    (Phrase, 8080, "2026/11/21 11:26:24 http server listening addr=:8080"),
    (Phrase, 8080, "[GIN-debug] Listening and serving HTTP on :8080"),
    (Phrase, 1323, "⇨ http server started on \x1b[32m[::]:1323\x1b[0m"),
    (
        Phrase,
        8080,
        r#"time=2026-11-21T11:26:24.565Z level=INFO msg="server started" addr=[::]:8080"#,
    ),
    (
        Json,
        8080,
        r#"{"time":"2026-11-21T11:26:24.565Z","level":"INFO","msg":"listening","addr":":8080"}"#,
    ),
    (
        Json,
        8080,
        r#"{"level":"info","ts":1795260403.3,"caller":"app/main.go:31","msg":"listening","port":8080}"#,
    ),
    (
        Phrase,
        8080,
        "2026-11-21T11:26:24.565Z\tINFO\tapp/main.go:31\tlistening\t{\"addr\": \":8080\"}",
    ),
    (
        Phrase,
        8080,
        "2026-11-21T11:26:24.565Z\tINFO\tapp/main.go:31\tserver started\t{\"port\": 8080}",
    ),
    (Phrase, 8080, r#"INFO[0000] Listening on 127.0.0.1:8080                  component=web"#),
    (
        Phrase,
        8443,
        r#"I1121 11:26:24.565000       1 serving.go:374] Serving securely on [::]:8443"#,
    ),
    (
        Phrase,
        24046,
        r#"ts=2026-11-21T11:26:37.307Z caller=tls_config.go:232 level=info msg="Listening on" address=127.0.0.1:24046"#,
    ),
    (
        Phrase,
        24045,
        r#"ts=2026-11-21T11:26:37.155Z caller=web.go:503 level=info component=web msg="Start listening for connections" address=127.0.0.1:24045"#,
    ),
    (
        Phrase,
        8086,
        r#"ts=2026-11-21T11:26:49.339085Z lvl=info msg="Listening on HTTP" log_id=16gTa9uW000 service=httpd addr=[::]:8086 https=false"#,
    ),
    (
        Phrase,
        3000,
        r#"logger=http.server t=2026-11-21T11:26:24Z level=info msg="HTTP Server Listen" address=[::]:3000 protocol=http subUrl= socket="#,
    ),
    (
        Url,
        24050,
        "2026-11-21T11:26:49.214Z\tinfo\tVictoriaMetrics/lib/httpserver/httpserver.go:93\tstarting http server at http://127.0.0.1:24050/",
    ),
    (
        Phrase,
        45655,
        "[31916] 2026/11/21 11:26:43.079395 [INF] Listening for client connections on 127.0.0.1:45655",
    ),
    (
        Phrase,
        24047,
        "2026-11-21 11:26:43.558715 N | embed: serving insecure client requests on 127.0.0.1:24047, this is strongly discouraged!",
    ),
    (
        Json,
        2379,
        r#"{"level":"info","ts":"2026-11-21T11:26:43.558Z","caller":"embed/serve.go:187","msg":"serving client traffic insecurely; this is strongly discouraged!","traffic":"grpc+http","address":"127.0.0.1:2379"}"#,
    ),
    (Url, 9000, "API: http://172.17.0.2:9000  http://127.0.0.1:9000"),
    (
        Json,
        41447,
        r#"{"level":"info","ts":1795260403.3495443,"logger":"http","msg":"port 0 listener","input_address":"127.0.0.1:0","actual_address":"127.0.0.1:41447"}"#,
    ),
    (Phrase, 45687, "Server address: 127.0.0.1:45687"),
    // Databases, brokers and caches.
    (Phrase, 24043, "30492:M 21 Nov 2026 11:26:24.566 * Running mode=standalone, port=24043."),
    (
        Phrase,
        24060,
        "2026-11-21 11:27:58.048 UTC [1408] LOG:  listening on IPv4 address \"127.0.0.1\", port 24060",
    ),
    (
        Phrase,
        3306,
        "2026-11-21T11:26:24.565000Z 0 [System] [MY-010931] [Server] /usr/sbin/mysqld: ready for connections. Version: '8.0.36'  socket: '/var/run/mysqld/mysqld.sock'  port: 3306  MySQL Community Server - GPL.",
    ),
    (
        Json,
        27017,
        r#"{"t":{"$date":"2026-11-21T11:26:24.565+00:00"},"s":"I","c":"NETWORK","id":23016,"ctx":"listener","msg":"Waiting for connections","attr":{"port":27017,"ssl":"off"}}"#,
    ),
    (
        Phrase,
        27017,
        "2026-11-21T11:26:24.565+0000 I NETWORK  [listener] waiting for connections on port 27017",
    ),
    (Phrase, 24013, "1795260390: Opening ipv4 listen socket on port 24013."),
    (Phrase, 24051, "bind 3 127.0.0.1:24051"),
    (
        Url,
        8123,
        "2026.11.21 11:26:24.565000 [ 1 ] {} <Information> Application: Listening for http://127.0.0.1:8123",
    ),
    (
        Phrase,
        9000,
        "2026.11.21 11:26:24.565000 [ 1 ] {} <Information> Application: Listening for native protocol (tcp): 127.0.0.1:9000",
    ),
    (Phrase, 24054, "epmd: Sat Nov 21 11:27:00 2026: try to initiate listening port 24054"),
    (Phrase, 7687, "2026-11-21 11:26:24.565+0000 INFO  Bolt enabled on localhost:7687."),
    (Phrase, 6333, "2026-11-21T11:26:24.565Z  INFO qdrant::actix: Qdrant HTTP listening on 6333"),
    (
        Phrase,
        8000,
        "2026-11-21T11:26:24.565Z  INFO surrealdb::net: Started web server on 127.0.0.1:8000",
    ),
    (
        Url,
        5984,
        "[info] 2026-11-21T11:26:24.565Z nonode@nohost <0.7.0> -------- Apache CouchDB has started on http://127.0.0.1:5984/",
    ),
    (Phrase, 8983, "Started Solr server on port 8983 (pid=1234). Happy searching!"),
    (
        Phrase,
        9200,
        r#"{"@timestamp":"2026-11-21T11:26:24.565Z", "log.level": "INFO", "message":"publish_address {127.0.0.1:9200}, bound_addresses {[::1]:9200}, {127.0.0.1:9200}", "log.logger":"org.elasticsearch.http.AbstractHttpServerTransport","elasticsearch.cluster.name":"docker-cluster"}"#,
    ),
    // What tests have beside them.
    (Phrase, 9515, "ChromeDriver was started successfully on port 9515."),
    (Phrase, 9515, "Starting ChromeDriver 114.0.5735.90 (386bc09e8f4f) on port 9515"),
    (Phrase, 4444, "1795260403348\tgeckodriver\tINFO\tListening on 127.0.0.1:4444"),
    (
        Url,
        4444,
        "11:26:24.565 INFO [Standalone.execute] - Started Selenium Standalone 4.8.0 (revision 267030adea): http://172.17.0.2:4444",
    ),
    (Phrase, 1025, "2026/11/21 11:26:24 [SMTP] Binding to address: 0.0.0.0:1025"),
    (Url, 10000, "Azurite Blob service is successfully listening at http://127.0.0.1:10000"),
    (Phrase, 8000, "Port:\t8000"),
    (Phrase, 8000, "  \"port\": 8000,"),
    (
        Phrase,
        8474,
        r#"INFO[0000] API HTTP server starting                      host=localhost port=8474 version=2.1.4"#,
    ),
    (Phrase, 8080, "Forwarding from 127.0.0.1:8080 -> 80"),
    (Phrase, 8001, "Starting to serve on 127.0.0.1:8001"),
    (
        Url,
        8180,
        "INFO  [io.quarkus] (main) Keycloak 25.0.0 on JVM started in 6.1s. Listening on: \
         http://0.0.0.0:8180. Management interface listening on http://0.0.0.0:9000.",
    ),
    // Made up.
    (Json, 44155, r#"{"msg":"listening","addr":{"port":44155}}"#),
    (Json, 44155, r#"{"event":"ready","address":"127.0.0.1:44155"}"#),
    (Json, 8080, r#" {"port":"8080"} "#),
    (Json, 8080, r#"{ "a" : [ 1, 2 ], "listen" : "vm:8080" }"#),
    (Json, 8080, r#"{"port":8080.5,"bind_addr":"[::1]:8080"}"#),
    (Json, 44155, r#"{"msg":"listening on 127.0.0.1:44155 \"now\"","port":44155}"#),
    (Phrase, 22000, "[YAKMJ] 11:26:56 INFO: TCP listener ([::]:22000) starting"),
    (Url, 32771, "http://user:secret@127.0.0.1:32771/"),
    (Phrase, 8081, "Upstream is http://api, listening on backend-1:8081"),
    (Phrase, 43695, "server ready on port number 43695"),
    (Phrase, 43695, "server ready port=43695"),
    (Phrase, 43695, "port=43695"),
    (Phrase, 3000, "server started (:::3000)"),
    (Json, 44155, r#"{"msg":"a \" quote","port":44155}"#),
    (Url, 4566, "Ready. Running on HTTPS://localhost.localstack.cloud:4566"),
];

/// What reports nothing.
const NOTHING: &[&str] = &[
    "",
    "PORT=",
    "PORT=0",
    "PORT=65536",
    "PORT=99999",
    "PORT=184467440737095516160080",
    "PORT=+80",
    "PORT=080",
    "EXPORT=80",
    "MY-PORT=80",
    "PORT=8080ms",
    // No port at all.
    "Ready to accept connections",
    "<22 server listening (auto-negotiate)",
    "2026/11/21 11:26:24 [notice] 30513#30513: nginx/1.22.1",
    "nginx: [warn] server started in 12:34:56",
    "2026-11-21 11:26:49: (server.c.1704) server started (lighttpd/1.4.69)",
    "2026-11-21 11:25:29 server started",
    "Server started at 12:34:56",
    "Server started at 2026-11-21 11:25:29",
    "Server started at 2026-11-21T11:26",
    "Server started at 21/Nov/2026:11:26:24 +0000",
    "INFO:     Started server process [28501]",
    "[INFO] Starting granian (main PID: 28610)",
    "Booting worker with pid: 28511",
    "started worker 4242",
    "listening with a backlog of 511",
    "Running on 8 threads",
    "running at 100%",
    "running on3000",
    "running at 2400%",
    "started in 1.234 seconds",
    "\x1b[32m\x1b[1mVITE\x1b[22m v8.3.8\x1b[39m  \x1b[2mready in \x1b[0m\x1b[1m203\x1b[22m ms",
    "Starting Redis version=7.0.15, bits=64, pid=30492",
    "listening on Unix socket \"/tmp/.s.PGSQL.24060\"",
    "Control socket listening at /root/.gunicorn/gunicorn.ctl",
    "caller=main.go:513 level=info msg=\"Starting TSDB ...\"",
    "serving.go:374] Serving securely",
    "started at Server.listen (server.js:2061:8080)",
    "listening on fe80::1:8080",
    "listening on 2001:db8::8080",
    "listening on 91111:2222:3333:4444:5555:6666:7777:8888:8080",
    "_PORT=40123",
    "serving http://localhost/app:8080",
    "started eth0 00:11:22:33:44:55",
    "started service version 1.0:2",
    "listening on port 0",
    "listening on 127.0.0.1:0",
    r#"{"level":"info","ts":1795260403.3496327,"msg":"Caddy serving static files on 127.0.0.1:0"}"#,
    "listening on port 70000",
    "listening on port 80.5",
    "listening on ports 3000-3010",
    "transport 8080 started",
    "Serving at http://localhost/",
    "Serving at https://127.0.0.1",
    "Serving at http://[::1]",
    "Serving at http://::1",
    "Serving at http://a:::8080",
    "For help, see: https://nodejs.org/en/docs/inspector",
    // Somebody else's.
    "connecting to database at db.example:5432",
    "connected to redis://localhost:6379",
    "Connecting to http://localhost:9000",
    "proxy to http://127.0.0.1:9000",
    "[HPM] Proxy created: /api  -> http://localhost:9000",
    "Forwarding requests to http://127.0.0.1:9000",
    "using upstream http://127.0.0.1:9000",
    "client connected from 127.0.0.1:51234",
    "waiting for localhost:5432",
    r#"INFO:     127.0.0.1:51234 - "GET / HTTP/1.1" 200 OK"#,
    r#"{"level":"info","msg":"connecting to database","host":"db","port":5432}"#,
    r#"{"t":{"$date":"2026-11-21T11:26:24.565+00:00"},"c":"NETWORK","msg":"Connection accepted","attr":{"remote":"127.0.0.1:51966"}}"#,
    r#"{"msg":"incoming request","req":{"remoteAddress":"127.0.0.1","remotePort":52345}}"#,
    r#"{"msg":"config","a":{"b":{"port":44155}}}"#,
    r#"{"port":0}"#,
    r#"{"address":"127.0.0.1:80" and more"#,
    r#"{"address":"12:34"}"#,
    r#"{"address":"ready: 34"}"#,
    r#"{"address":"fe80::1:34"}"#,
    r#"["port",80]"#,
    r#"{"port":"#,
    r#"{"port}"#,
    "see /srv/metrics: ws://localhost:8080",
    // Failures.
    "Error: listen EADDRINUSE: address already in use :::3000",
    "listen tcp :8080: bind: address already in use",
    "nginx: [debug] close listening 127.0.0.1:24011 #3",
    "epmd: there is already a epmd running at port 24054 on ipaddr 127.0.0.1",
    "Port 5173 is in use, trying another one...",
    "2026-11-21T11:26:55.082Z\tinfo\tgracefully shutting down webservice at \"127.0.0.1:24050\"",
];

/// What reports a port beside the main one: of a debugger, of metrics, of an admin interface.
const BESIDE: &[(u16, &str)] = &[
    (37789, "Debugger listening on ws://127.0.0.1:37789/a44dbc3a-3083-453b-8c25-d1ac03852d58"),
    (46685, "Listening for transport dt_socket at address: 46685"),
    (
        24050,
        "2026-11-21T11:26:49.214Z\tinfo\tpprof handlers are exposed at http://127.0.0.1:24050/debug/pprof/",
    ),
    (9100, "Metrics server listening on :9100"),
    (9100, r#"{"msg":"Ready. Metrics enabled","port":9100}"#),
    (24049, "[31916] 2026/11/21 11:26:43.079320 [INF] Starting http monitor on 127.0.0.1:24049"),
    (
        2019,
        r#"{"level":"info","ts":1795260403.3,"logger":"admin","msg":"admin endpoint started","address":"localhost:2019","enforce_origin":false}"#,
    ),
    (24678, "[vite] HMR server listening on port 24678"),
    (
        9300,
        "[2026-11-21T11:26:24,565][INFO ][o.e.t.TransportService   ] [node-1] publish_address {127.0.0.1:9300}, bound_addresses {127.0.0.1:9300}",
    ),
    (8080, "Listening on http://127.0.0.1:8080 (admin)"),
    (9010, "JMX listening on port 9010"),
    (15672, "Management plugin: HTTP (non-TLS) listener started on port 15672"),
    (24048, "2026-11-21 11:26:42.774437 I | embed: listening for peers on 127.0.0.1:24048"),
    (
        33060,
        "X Plugin ready for connections. Bind-address: '::' port: 33060, socket: /var/run/mysqld/mysqlx.sock",
    ),
    (35729, "[LiveReload] listening on port 35729"),
];

fn main_ones(line: &str) -> Vec<(Rank, u16)> {
    let main = read(line).into_iter().filter(|report| report.role == Role::Main);
    main.map(|report| (report.rank, report.port)).collect()
}

#[test]
fn lines_that_servers_print() {
    for &(rank, port, line) in STARTED {
        assert_eq!(main_ones(line), [(rank, port)], "{line:?}");
    }
}

#[test]
fn lines_that_servers_print_when_they_are_ready_are_no_complaints() {
    for (_, _, line) in STARTED {
        assert_eq!(crate::complaint::complaint(line), None);
    }
}

#[test]
fn lines_that_report_nothing() {
    for line in NOTHING {
        assert_eq!(read(line), [], "{line:?}");
    }
}

#[test]
fn lines_that_report_what_is_beside() {
    for &(port, line) in BESIDE {
        let found: Vec<_> = read(line).into_iter().map(|it| (it.role, it.port)).collect();
        assert_eq!(found, [(Role::Beside, port)], "{line:?}");
        let reports = reports(&[line]);
        assert_eq!((reports.main(|_| true), reports.beside()), (Found::Nothing, [port].into()));
    }
}

#[test]
fn what_is_beside_is_so_in_every_line() {
    let check = |lines: &[&str], expected: &[u16]| {
        assert_eq!(reports(lines).beside(), expected.iter().copied().collect(), "{lines:?}");
    };
    check(&["GRPC_PORT=1", "PORT=2", "metrics on :3, listening"], &[1, 3]);
    check(&["listening on :1", "pprof is exposed at http://127.0.0.1:1/debug/pprof/"], &[]);
    check(&["metrics server failed: listen on :1"], &[]);
    let keycloak = "Listening on: http://0.0.0.0:1. Management interface listening on http://a:2.";
    check(&[keycloak], &[2]);
}

/// Who knows the server is right about the main port; what is beside it, the usual forms tell.
#[test]
fn a_reader_of_its_own() {
    let own = |line: &str| line.strip_prefix('~')?.parse().ok();
    let mut reader = Reader::new(Some(Own(Arc::new(own))));
    ["metrics on :1, listening", "PORT=2", "~3"].iter().for_each(|line| reader.read(line));
    assert_eq!((reader.reports().all_main(), reader.beside()), ([3].into(), [1].into()));
}

#[test]
fn a_line_may_report_several() {
    let check = |line: &str, expected: &[(Rank, u16)]| {
        assert_eq!(main_ones(line), expected, "{line:?}");
    };
    check(
        "listening on 127.0.0.1:80, [::1]:81 and port 82",
        &[(Phrase, 80), (Phrase, 81), (Phrase, 82)],
    );
    check("serving http://a:80 and https://a:81", &[(Url, 80), (Url, 81)]);
    check(":8080 started, forwarding to http://127.0.0.1:9000", &[(Phrase, 8080)]);
    check("PORT=1 http://a:2 on port 3", &[(Variable, 1), (Url, 2)]);
    check("PORT=1 ready at http://a:2 on port 3", &[(Variable, 1), (Url, 2), (Phrase, 3)]);
    let many: String = (1..100).map(|port| format!("PORT={port} ")).collect();
    assert_eq!(read(&many).len(), MAX_PER_LINE);
}

#[test]
fn a_port_has_the_name_before_it() {
    let check = |line: &str, name: Option<&str>, port| {
        let role = name.map_or(Role::Main, |name| Role::Named(name.to_owned()));
        let report = |report: Report| (report.role, report.port);
        let reports: Vec<_> = read(line).into_iter().map(report).collect();
        assert_eq!(reports, [(role, port)], "{line:?}");
    };
    check("GRPC_PORT=40124", Some("grpc"), 40124);
    check("HTTP2_PORT=40124", Some("http2"), 40124);
    check("started: MY_ADMIN_PORT=\"40124\"", Some("my_admin"), 40124);
    check("metrics at METRICS_PORT=9100", Some("metrics"), 9100);
    check(r#"{"grpc_port":40124}"#, Some("grpc"), 40124);
    check("PORT=1", None, 1);
    assert_eq!(read("GRPC_PORT=1 PORT=1").len(), 2, "one port of two names");
    let mut reports = Reports::default();
    reports.add("GRPC_PORT=1 PORT=2");
    reports.add("GRPC_PORT=3");
    assert_eq!(reports.named("grpc"), Some(1));
    assert_eq!(reports.named("GRPC"), Some(1));
    assert_eq!(reports.named("http"), None);
    reports.add("MY_ADMIN_PORT=4");
    reports.add(r#"{"my-grpc_port":5}"#);
    assert_eq!((reports.named("my-admin"), reports.named("my_admin")), (Some(4), Some(4)));
    assert_eq!((reports.named("my-grpc"), reports.named("my_grpc")), (Some(5), Some(5)));
}

#[test]
fn escapes_are_removed() {
    let check = |text, expected: &str| assert_eq!(text::without_escapes(text), expected);
    check("plain", "plain");
    check("\x1b[1;32mgreen\x1b[m \x1b[2K\x1b[?25h.", "green .");
    check("\x1b]8;;http://a:1\x07link\x1b]8;;\x1b\\.", "link.");
    check("\x1b(Bx\x1b=y", "xy");
    check("cut\x1b[", "cut");
    check("cut\x1b", "cut");
    check("cut\x1b]8;;", "cut");
}

#[test]
fn a_file_is_read_up_to_its_bound() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("port");
    assert_eq!(Reports::of_file(&file), Reports::default(), "there is none");
    assert_eq!(Reports::of_file(dir.path()), Reports::default(), "it is none");
    let ports = |text: &str| {
        std::fs::write(&file, text).expect("write");
        Vec::from_iter(Reports::of_file(&file).all_main())
    };
    assert_eq!(ports("0\n"), []);
    assert_eq!(ports("40123"), [40123]);
    assert_eq!(ports("  40123\n/path\n"), [40123]);
    assert_eq!(ports("40123 /path\n"), []);
    assert_eq!(ports("listening on port 40123\n"), [40123]);
    let half = "\n".repeat(32 * 1024);
    assert_eq!(ports(&format!("{half}1\n{half}2\n")), [1]);
}

fn reports(lines: &[&str]) -> Reports {
    let mut reports = Reports::default();
    lines.iter().for_each(|line| reports.add(line));
    reports
}

#[test]
fn the_most_certain_that_listens_is_the_main_one() {
    let lines = [
        "listening on port 1",
        "see http://127.0.0.1:2/",
        r#"{"port":3}"#,
        "\x1b[1mPORT=4\x07\x1b[m\n",
        "GRPC_PORT=5",
    ];
    let reports = reports(&lines);
    let check = |listening: &[u16], expected| {
        let found = match reports.main(|port| listening.contains(&port)) {
            Found::Port { port, rank, line } => Some((rank, port, line)),
            _ => None,
        };
        assert_eq!(found, expected, "{listening:?}");
    };
    check(&[1, 2, 3, 4, 5], Some((Variable, 4, "PORT=4")));
    check(&[1, 2, 3, 5], Some((Json, 3, lines[2])));
    check(&[1, 2, 5], Some((Url, 2, lines[1])));
    check(&[1, 5], Some((Phrase, 1, lines[0])));
    check(&[5], None);
    check(&[], None);
}

#[test]
fn two_ports_of_one_rank_are_ambiguous() {
    let (one, two, three) = ("listening on port 1", "listening on port 2", "http://a:3");
    let both = reports(&[one, two]);
    let ambiguous = |lines| Found::Ambiguous { ports: [1, 2], lines };
    assert_eq!(both.main(|_| true), ambiguous([one, two]));
    let found = both.main(|port| port == 2);
    assert_eq!(found, Found::Port { port: 2, rank: Phrase, line: two });
    let better = reports(&[one, two, three]);
    assert_eq!(better.main(|_| true), Found::Port { port: 3, rank: Url, line: three });
    assert_eq!(better.main(|port| port < 3), ambiguous([one, two]));
    let same = reports(&[one, "started on port 1"]);
    assert_eq!(same.main(|_| true), Found::Port { port: 1, rank: Phrase, line: one });
    let line = "listening on :1 and :2";
    assert_eq!(reports(&[line]).main(|_| true), ambiguous([line, line]));
}

#[test]
fn a_caddy_reports_the_port_it_got() {
    let log = [
        r#"{"level":"warn","ts":1795260403.3489182,"logger":"admin","msg":"admin endpoint disabled"}"#,
        r#"{"level":"info","ts":1795260403.3495441,"logger":"http","msg":"port 0 listener","input_address":"127.0.0.1:0","actual_address":"127.0.0.1:41447"}"#,
        r#"{"level":"info","ts":1795260403.349581,"logger":"http.log","msg":"server running","name":"static","protocols":["h1","h2","h3"]}"#,
        r#"{"level":"info","ts":1795260403.3496327,"msg":"Caddy serving static files on 127.0.0.1:0"}"#,
    ];
    let port = Found::Port { port: 41447, rank: Json, line: log[1] };
    assert_eq!(reports(&log).main(|_| true), port);
}

#[test]
fn what_is_remembered_is_bounded_and_the_best() {
    let mut reports = Reports::default();
    for port in 1..=200 {
        reports.add(&format!("listening on port {port}"));
        reports.add("listening on port 1");
    }
    assert_eq!(reports.all.len(), MAX_REPORTS);
    assert_ne!(reports.main(|port| port == 64), Found::Nothing, "the first stay");
    reports.add("http://a:1000");
    reports.add(&format!("PORT=2000 {}", "é".repeat(1000)));
    reports.add("http://a:1000");
    assert_eq!(reports.all.len(), MAX_REPORTS);
    let main = |wanted| match reports.main(|port| port == wanted) {
        Found::Port { port, line, .. } => Some((port, line.chars().count())),
        _ => None,
    };
    assert_eq!(main(1), Some((1, 19)));
    assert_eq!(main(62), Some((62, 20)));
    assert_eq!(main(63), None, "the last made room");
    assert_eq!(main(1000), Some((1000, 13)));
    assert_eq!(main(2000), Some((2000, MAX_KEPT)));
    assert_eq!(main(200), None);
}

/// Text in which there is much to be found, and to be mistaken.
fn line() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "listening",
            " on ",
            " at ",
            "port",
            "PORT=",
            "_PORT=",
            "GRPC",
            "http://",
            "https://",
            "[::]",
            "[",
            "]",
            ":",
            "::",
            "127.0.0.1",
            "localhost",
            "{",
            "}",
            "\"",
            "\"port\":",
            "\"addr\":\"",
            "\\",
            "('",
            "', ",
            ",",
            "(",
            ")",
            " ",
            "=",
            "\x1b[",
            "\x1b]",
            "\x1b",
            "m",
            "0",
            "80",
            "8080",
            "65535",
            "65536",
            "connecting",
            "é",
            "➜",
            "\r",
            "@",
            "/",
            "%",
            "-",
            ".",
            "local",
            "(s)",
        ])
        .prop_map(str::to_owned),
        any::<u32>().prop_map(|number| number.to_string()),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Each port is a number of the line, and there are not too many.
    #[test]
    fn what_is_reported_was_said(line in line()) {
        let reports = read(&line);
        prop_assert!(reports.len() <= MAX_PER_LINE);
        let plain = text::without_escapes(&line);
        let numbers: Vec<_> = plain.split(|c: char| !c.is_ascii_digit()).collect();
        for report in reports {
            prop_assert!(report.port != 0 && numbers.contains(&report.port.to_string().as_str()));
        }
    }

    #[test]
    fn any_text_is_survived(line in any::<String>()) {
        prop_assert!(read(&line).len() <= MAX_PER_LINE);
    }

    /// No order of lines hides a port that was said in capitals.
    #[test]
    fn a_variable_is_found_among_any_lines(
        mut lines in prop::collection::vec(line(), 0..20),
        at in any::<prop::sample::Index>(),
    ) {
        lines.insert(at.index(lines.len() + 1), "PORT=12345".to_owned());
        let mut reports = Reports::default();
        lines.iter().for_each(|line| reports.add(line));
        let main = reports.main(|port| port == 12345);
        prop_assert!(matches!(main, Found::Port { rank: Variable, .. }), "{:?}", main);
    }
}
