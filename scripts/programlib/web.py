"""Web servers, and what asks them."""

import re
import signal

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
    {more}
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
    lab.serve("nginx", "-e", "stderr", "-c", lab.text("nginx.conf", NGINX.format(dir=lab.dir, more="")), port=8080)
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


TLS = """
    server {{
        listen 8443 ssl http2;
        ssl_certificate {dir}/cert; ssl_certificate_key {dir}/key;
        root {dir}/site;
    }}
"""


@program(needs={"nginx": "nginx", "curl": "curl", "wget": "wget", "openssl": "openssl"}, quick=True)
def https(lab: Lab) -> str:
    """TLS with HTTP/2 and HTTP/1.1: forty files at once, a range, an upload cut off; wget of a tree."""
    names = ("-subj", "/CN=a", "-addext", f"subjectAltName=IP:{lab.host}")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", lab.dir / "key", "-out", lab.dir / "cert")
    lab.prepare("openssl", "req", "-x509", "-nodes", *key, "-days", 2, *names)
    digests = {number: lab.file(f"site/f{number}", number * 30_011)[1] for number in range(40)}
    path, digest = lab.file("site/large", 10_000_000)
    lab.text("site/index.html", "".join(f'<a href="f{number}">' for number in digests))
    config = NGINX.format(dir=lab.dir, more=TLS.format(dir=lab.dir))
    lab.serve("nginx", "-e", "stderr", "-c", lab.text("nginx.conf", config), port=8443)
    url = f"https://{lab.host}:8443"
    curl = ("curl", "-sS", "-f", "--cacert", lab.dir / "cert")
    for way in ("--http2", "--http1.1"):
        told = lab.run(*curl, way, "-o", lab.dir / "got", "-w", "%{http_version}", f"{url}/large")
        lab.same((told, sha256(lab.dir / "got")), ({"--http2": "2", "--http1.1": "1.1"}[way], digest), way)
        lab.run(*curl, way, "-Z", "--parallel-max", 20, "-o", f"{lab.dir}/many#1", f"{url}/f[0-39]")
        got = {number: sha256(lab.dir / f"many{number}") for number in digests}
        lab.same(got, digests, f"forty at once, {way}")
        lab.run(*curl, way, "-o", lab.dir / "part", "-r", "-1000001", f"{url}/large")
        lab.same((lab.dir / "part").read_bytes(), path.read_bytes()[-1_000_001:], f"a range, {way}")
    lab.run(*curl, "-T", path, f"{url}/large", status=22)  # 405, while the body is still on its way
    lab.run("wget", "-q", "-r", "-nH", "-P", lab.dir / "tree", "--ca-certificate", lab.dir / "cert", f"{url}/")
    lab.same({number: sha256(lab.dir / "tree" / f"f{number}") for number in digests}, digests, "wget")
    return "80 files at once, 40 by wget"


@program(needs={"nginx": "nginx", "ab": "apache2-utils"})
def ab(lab: Lab) -> str:
    """A connection for each request, while nginx gets new workers twice."""
    lab.file("site/f", 5000)
    server = lab.serve(
        "nginx", "-e", "stderr", "-c", lab.text("nginx.conf", NGINX.format(dir=lab.dir, more="")), port=8080
    )
    load = lab.start("ab", "-q", "-n", 6000, "-c", 20, f"http://{lab.host}:8080/f")
    for _ in range(2):
        lab.until((lab.dir / "nginx.pid").exists, "nginx has no pid file", server)
        lab.run("curl", "-sS", "-f", "-o", "/dev/null", f"http://{lab.host}:8080/f")
        lab.prepare("kill", f"-{signal.SIGHUP.value}", (lab.dir / "nginx.pid").read_text().strip())
    output = lab.wait(load)
    found = re.search(r"Requests per second: +([\d.]+)", output)
    good = "Complete requests:      6000" in output and "Failed requests:        0" in output
    lab.same((good, found is not None), (True, True), output)
    return f"{float(found[1]) if found else 0:.0f} connections/s"


PAGE = """<!doctype html><body>
<script>var sum = 0, pictures = 0, broken = 0;</script>
{resources}
<script>
onload = () => {{
    for (let i = 0; i < 20; i++) {{
        const ask = new XMLHttpRequest();
        ask.open('GET', 'f' + i + '.txt', false);
        ask.send();
        sum += ask.responseText.length;
    }}
    document.body.textContent = 'sum ' + sum + ' pictures ' + pictures + ' broken ' + broken;
}};
</script>
"""
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c000000000100010000020144003b")
BROWSER = ("--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server", "--dump-dom")


@program(needs={"nginx": "nginx", "chromium-headless-shell": "chromium-headless-shell"})
def chromium(lab: Lab) -> str:
    """A page with a hundred scripts and images over plain HTTP, and twenty questions of its own."""
    lab.text("mime", "types { text/html html; text/javascript js; image/gif gif; text/plain txt; }")
    resources = []
    for number in range(50):
        lab.text(f"site/s{number}.js", f"sum += {number};" + " " * 40_000)
        (lab.dir / "site" / f"i{number}.gif").write_bytes(GIF + bytes(number * 1000))
        lab.text(f"site/f{number}.txt", "x" * number * 100)
        resources.append(f'<script src="s{number}.js"></script>')
        resources.append(f'<img src="i{number}.gif" onload="pictures += naturalWidth" onerror="broken++">')
    lab.text("site/index.html", PAGE.format(resources="\n".join(resources)))
    config = NGINX.format(dir=lab.dir, more="").replace("default_type", f"include {lab.dir}/mime; default_type")
    lab.serve("nginx", "-e", "stderr", "-c", lab.text("nginx.conf", config), port=8080)
    dom = lab.run(
        "chromium-headless-shell", "--no-sandbox", f"--user-data-dir={lab.dir}/profile", *BROWSER,
        f"http://{lab.host}:8080/index.html",
    )  # fmt: skip
    lab.same(re.findall("sum.*broken [0-9]+", dom), ["sum 20225 pictures 50 broken 0"], dom)
    return "121 resources"
