"""Web servers."""

import re

from programlib.lab import Failure, Lab, program, sha256

NGINX = """
daemon off;
user root;
worker_processes 2;
pid {dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
    client_max_body_size 64m;
    server {{
        listen 8080 reuseport;
        root {dir}/site;
        sendfile on;
        tcp_nopush on;
        location = /hello {{ return 200 "hello\\n"; }}
        location /far/ {{ proxy_pass http://127.0.0.1:8081/; proxy_http_version 1.1; }}
    }}
    server {{ listen 127.0.0.1:8081; root {dir}/site; }}
}}
"""


def rate(output: str) -> str:
    """What wrk measured. Raises Failure if it saw errors."""
    if "Socket errors" in output or "Non-2xx" in output:
        raise Failure(output[-300:])
    found = re.search(r"Requests/sec: +([\d.]+)", output)
    if found is None:
        raise Failure(output[-300:])
    return f"{float(found[1]):.0f} requests/s"


@program(needs={"nginx": "nginx", "wrk": "wrk", "curl": "curl"}, quick=True)
def nginx(lab: Lab) -> str:
    """Two workers with a reuseport listener each; sendfile, ranges, a proxied file, then load from 16 connections."""
    path, digest = lab.file("site/f", 8_000_000)
    lab.serve("nginx", "-e", "stderr", "-c", lab.text("nginx.conf", NGINX.format(dir=lab.dir)), port=8080)
    url = f"http://{lab.host}:8080"
    for source in ("f", "far/f"):
        lab.run("curl", "-sS", "-f", "-o", lab.dir / "got", f"{url}/{source}")
        lab.same(sha256(lab.dir / "got"), digest, source)
    lab.run("curl", "-sS", "-f", "-o", lab.dir / "part", "-r", "1000000-1999999", f"{url}/f")
    lab.same((lab.dir / "part").read_bytes(), path.read_bytes()[1_000_000:2_000_000], "a range")
    small = rate(lab.run("wrk", "-t2", "-c16", f"-d{1 if lab.brief else 2}s", f"{url}/hello"))
    large = lab.run("wrk", "-t1", "-c4", "-d1s", f"{url}/f")
    rate(large)
    found = re.search(r"Transfer/sec: +(\S+)", large)
    return f"{small}, {found[1] if found else '?'}/s of large files"
