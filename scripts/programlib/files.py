"""Programs that move files."""

import os
import pwd
from pathlib import Path

from programlib.lab import Lab, program, sha256


def tree(lab: Lab, name: str) -> dict[str, str]:
    """A directory of large and small files, and their digests."""
    made = {}
    for number in range(60):
        size = 6_000_000 if number == 0 else number * 997
        made[f"d{number % 5}/f{number}"] = lab.file(f"{name}/d{number % 5}/f{number}", size)[1]
    return made


def digests(directory: Path) -> dict[str, str]:
    """Of every file below, but git's own."""
    found = (path for path in directory.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(directory)): sha256(path) for path in found}


RSYNCD = """
port = 8730
use chroot = no
uid = root
gid = root
log file = /dev/stderr
reverse lookup = no
[m]
path = {}
read only = no
"""


@program(needs={"rsync": "rsync"}, quick=True)
def rsync(lab: Lab) -> str:
    """Its daemon: a tree pulled, changed, and pushed back."""
    made = tree(lab, "from")
    lab.serve("rsync", "--daemon", "--no-detach", "--config", lab.text("c", RSYNCD.format(lab.dir)), port=8730)
    lab.run("rsync", "-a", f"rsync://{lab.host}:8730/m/from/", f"{lab.dir}/pulled/")
    lab.same(digests(lab.dir / "pulled"), made, "pulled")
    with (lab.dir / "pulled" / "d0" / "f0").open("r+b") as file:
        file.seek(3_000_000)
        file.write(b"changed")
    # -I and no -W: the block checksums of the file are exchanged, both directions full at once
    lab.run("rsync", "-aI", "--no-whole-file", "-z", f"{lab.dir}/pulled/", f"rsync://{lab.host}:8730/m/from/")
    lab.same(digests(lab.dir / "from"), digests(lab.dir / "pulled"), "pushed")
    return f"{len(made)} files"


@program(needs={"git": "git"}, quick=True)
def git(lab: Lab) -> str:
    """git daemon: a clone, a push back, a fetch of it."""
    made = tree(lab, "repo")
    settings = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
    }
    env = settings | {"GIT_COMMITTER_EMAIL": "a@b"}

    def here(*words: str, at: str = "repo") -> None:
        lab.prepare("git", "-C", lab.dir / at, *words, env=env)

    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "first")):
        here(*words)
    here("config", "receive.denyCurrentBranch", "ignore")
    options = ("--reuseaddr", "--export-all", f"--base-path={lab.dir}", "--enable=receive-pack", "--port=9418")
    lab.serve("git", "daemon", *options, lab.dir, port=9418, env=env)
    url = f"git://{lab.host}/repo"
    lab.run("git", "clone", "-q", url, lab.dir / "clone", env=env)
    lab.same(digests(lab.dir / "clone"), made, "a clone")
    made["new"] = lab.file("clone/new", 3_000_000)[1]
    here("add", ".", at="clone")
    here("commit", "-qm", "second", at="clone")
    lab.run("git", "-C", lab.dir / "clone", "push", "-q", "origin", "main", env=env)
    lab.run("git", "clone", "-q", url, lab.dir / "again", env=env)
    lab.same(digests(lab.dir / "again"), made, "after the push")
    return f"{len(made)} files"


@program(needs={"sshd": "openssh-server", "ssh": "openssh-client", "scp": "openssh-client", "rsync": "rsync"})
def ssh(lab: Lab) -> str:
    """sshd re-executes itself and drops privileges; scp and rsync over it, a command, and a forwarded port."""
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for key in ("host", "user"):
        lab.prepare("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", lab.dir / key)
    options = (f"AuthorizedKeysFile={lab.dir}/user.pub", "StrictModes=no", "PidFile=none", "UsePAM=no")
    options += ("Subsystem=sftp internal-sftp",)
    words = [word for each in options for word in ("-o", each)]
    lab.serve("/usr/sbin/sshd", "-D", "-e", "-p", 2222, "-h", lab.dir / "host", "-f", "/dev/null", *words, port=2222)
    known = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes")
    words = [word for each in (*known, "IdentitiesOnly=yes", f"IdentityFile={lab.dir}/user") for word in ("-o", each)]
    words = ["-F", "none", *words]
    there = f"{pwd.getpwuid(os.getuid()).pw_name}@{lab.host}"
    path, digest = lab.file("f", 20_000_000)
    output = lab.run("ssh", *words, "-p", 2222, there, f"sha256sum {path}; exit 3", status=3)
    lab.same(output.split()[0], digest, "what a command saw")
    lab.run("scp", "-q", *words, "-P", 2222, path, f"{there}:{lab.dir}/up")
    lab.run("scp", "-q", *words, "-P", 2222, f"{there}:{lab.dir}/up", lab.dir / "down")
    lab.same(sha256(lab.dir / "down"), digest, "scp there and back")
    lab.run("sh", "-c", f"ssh {' '.join(words)} -p 2222 {there} cat < {path} > piped")
    lab.same(sha256(lab.dir / "piped"), digest, "through cat, both ways at once")
    shell = f"ssh {' '.join(words)} -p 2222"
    lab.run("rsync", "-a", "-e", shell, path, f"{there}:{lab.dir}/synced")
    lab.same(sha256(lab.dir / "synced"), digest, "rsync")
    return "20 MB five times"


VSFTPD = """
background=NO
listen=YES
listen_port=2121
anonymous_enable=YES
write_enable=YES
anon_upload_enable=YES
anon_umask=022
anon_root={dir}/ftp
no_anon_password=YES
secure_chroot_dir=/var/run/vsftpd/empty
nopriv_user=nobody
connect_from_port_20=YES
"""


@program(needs={"vsftpd": "vsftpd", "curl": "curl"})
def ftp(lab: Lab) -> str:
    """vsftpd with its sandbox: files down in both passive ways and the active one, one up, a listing."""
    Path("/var/run/vsftpd/empty").mkdir(parents=True, exist_ok=True)
    path, digest = lab.file("ftp/f", 10_000_000)
    path.chmod(0o644)
    (lab.dir / "ftp" / "in").mkdir()
    (lab.dir / "ftp" / "in").chmod(0o777)
    (lab.dir / "ftp").chmod(0o755)
    lab.serve("vsftpd", lab.text("conf", VSFTPD.format(dir=lab.dir)), port=2121)
    url = f"ftp://{lab.host}:2121"
    for name, words in (("EPSV", ()), ("PASV", ("--disable-epsv",)), ("active", ("-P", "-"))):
        lab.run("curl", "-sS", *words, "-o", lab.dir / name, f"{url}/f")
        lab.same(sha256(lab.dir / name), digest, name)
    lab.same(" f" in lab.run("curl", "-sS", f"{url}/"), True, "a listing")
    lab.run("curl", "-sS", "-T", path, f"{url}/in/")
    lab.same(sha256(lab.dir / "ftp" / "in" / "f"), digest, "an upload")
    return "10 MB four times"
