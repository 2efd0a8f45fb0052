"""Sharing, with a server on this machine that speaks what the hub speaks."""

import base64
import hashlib
import http.server
import json
import re

import pytest
import torch
import yaml

import gfnet_env
from gfnet_env import EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.commands.hub import PullConfig, PushConfig, pull, push
from gfnet_env.files import read_json
from gfnet_env.models import StaticConfig, StaticNetwork
from gfnet_env.policies import CenterPolicy, LearnedPolicy
from gfnet_env.zoo import FOLDER

TOKEN = "hf_token"


class _Hub(http.server.BaseHTTPRequestHandler):
    """Repositories in memory; every commit replaces the files of a repository that it names."""

    def do_GET(self):
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/(?:revision|tree)/([^/?]+).*", self.path):
            files = self._files(found[1])
            if files is None:
                return
            if "/tree/" in self.path:
                self._answer([{"type": "file", "path": p, **_blob(files[p])} for p in files])
            else:
                siblings = [{"rfilename": name} for name in files]
                self._answer({"id": found[1], "sha": _sha(files), "siblings": siblings})
        else:
            self._file(body=True)

    def do_HEAD(self):
        self._file(body=False)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "log in first"}, 401)
        elif self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            self.server.repositories.setdefault(name, {})
            # Releases of huggingface_hub differ.
            private = wanted.get("private") or wanted.get("visibility") == "private"
            self.server.private[name] = private
            self._answer({"url": f"{self.server.url}/{name}"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            paths = [each["path"] for each in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._answer({"files": [{"path": path, **modes} for path in paths]})
        else:
            name = re.fullmatch(r"/api/models/(.+?/.+?)/commit/main", self.path)[1]
            files = self.server.repositories[name]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
            sha = _sha(files)
            commit_url = f"{self.server.url}/{name}/commit/{sha}"
            self._answer({"commitUrl": commit_url, "commitOid": sha, "pullRequestUrl": None})

    def _file(self, *, body):
        found = re.fullmatch(r"/(.+?/.+?)/resolve/[^/]+/(.+)", self.path)
        if not found:
            self._answer({"error": "not here"}, 404)
            return
        content = (self._files(found[1]) or {}).get(found[2])
        if content is None:
            return
        self.server.read.append(found[2])
        self.send_response(200)
        self.send_header("X-Repo-Commit", _sha(self._files(found[1])))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _files(self, name):
        files = self.server.repositories.get(name)
        if files is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
        return files

    def _answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _sha(files):
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def _blob(content):
    return {"oid": hashlib.sha1(content).hexdigest(), "size": len(content)}


@pytest.fixture
def hub(monkeypatch, tmp_path, serving):
    """The server; its attributes tell what it holds and what was read."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.repositories, server.private, server.read = {}, {}, []
    server.url = serving(server)
    # What HF_ENDPOINT and HF_HUB_CACHE set when they are read, at import.
    files = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": files,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    return server


def test_an_assembled_network_comes_back_as_it_was(hub, digits):
    gfnet = gfnet_env.pretrained("cluttered-digits")
    address = gfnet.push_to_hub("me/digits", license="mit", private=True, token=TOKEN)
    assert address.startswith(f"{hub.url}/me/digits/commit/")
    assert hub.private == {"me/digits": True}
    again = EarlyExitGFNet.from_pretrained("me/digits")
    expected, found = gfnet(digits[:10]), again(digits[:10])
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.exit_step, expected.exit_step)
    assert again.budgets == gfnet.budgets


def test_only_weights_and_json_are_read(hub):
    gfnet_env.pretrained("cluttered-digits").push_to_hub("me/digits", token=TOKEN)
    hub.repositories["me/digits"] |= {"code.py": b"raise SystemExit", "agent.pkl": b"no"}
    EarlyExitGFNet.from_pretrained("me/digits")
    assert {name.rpartition(".")[2] for name in hub.read} == {"json", "safetensors"}


def test_the_card_says_what_it_is_how_good_and_at_what_cost(hub):
    gfnet = gfnet_env.pretrained("cluttered-digits")
    gfnet.push_to_hub("me/digits", license="mit", token=TOKEN)
    _, about, card = hub.repositories["me/digits"]["README.md"].decode().split("---\n", 2)
    about = yaml.safe_load(about)
    assert (about["license"], about["library_name"]) == ("mit", "gfnet-env")
    assert card.startswith("\n# digits\n")
    assert 'EarlyExitGFNet.from_pretrained("me/digits")' in card
    assert "`cluttered-digits`" in card
    for name, steps in gfnet.model.trained_on.accuracy.items():
        assert " | ".join(f"{each:.1%}" for each in steps) in card, name
    for point in (gfnet.budgets.points[0], gfnet.budgets.points[-1]):
        assert f"| {point.multiply_adds / 1e6:.2f} M | {point.accuracy:.1%} |" in card


def _parts(network):
    config = StaticConfig(encoder="compact", resolution=32, num_classes=10)
    return (network, StaticNetwork(config), LearnedPolicy.for_model(network, (8,)))


@pytest.mark.parametrize("number", range(3), ids=["network", "static network", "policy"])
def test_parts_are_shared_alone(hub, network, number, tmp_path):
    part = _parts(network)[number]
    part.push_to_hub("me/part", token=TOKEN)
    part.save(tmp_path / "part")
    for name in ("me/part", tmp_path / "part"):
        again = type(part).from_pretrained(name)
        for key, tensor in part.state_dict().items():
            assert torch.equal(again.state_dict()[key], tensor)
    assert f'{type(part).__name__}.from_pretrained("me/part")' in (
        hub.repositories["me/part"]["README.md"].decode()
    )


def test_what_an_earlier_push_had_is_removed(hub, network):
    gfnet_env.pretrained("cluttered-digits").push_to_hub("me/digits", token=TOKEN)
    EarlyExitGFNet(network, CenterPolicy()).push_to_hub("me/digits", token=TOKEN)
    assert "policy.safetensors" not in hub.repositories["me/digits"]
    assert isinstance(EarlyExitGFNet.from_pretrained("me/digits").policy, CenterPolicy)


@pytest.mark.usefixtures("hub")
def test_what_cannot_be_shared_is_named(network, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="'digits' names no repository; write USER/NAME"):
        network.push_to_hub("digits")
    with pytest.raises(ValueError, match="repo_id must be text, not None"):
        network.push_to_hub(None)
    with pytest.raises(ValueError, match="license must be text, not 5"):
        network.push_to_hub("me/digits", license=5)
    with pytest.raises(ValueError, match="token must be text, not 5"):
        network.push_to_hub("me/digits", token=5)
    with pytest.raises(ValueError, match="the access token has letters that no token has"):
        network.push_to_hub("me/digits", token="hf_ö")
    with pytest.raises(ValueError, match="the access token has letters that no token has"):
        GlanceFocusNetwork.from_pretrained("me/nothing", token="hf_ö")
    with pytest.raises(OSError, match="401"):
        network.push_to_hub("me/digits", token="hf_wrong")
    with pytest.raises(FileNotFoundError, match="neither a folder nor a repository me/nothing"):
        GlanceFocusNetwork.from_pretrained("me/nothing")
    for name in ("nothing", "../nothing", "me/no thing", "me/no/thing"):
        with pytest.raises(
            FileNotFoundError, match=f"no folder {name}, and it names no repository"
        ):
            GlanceFocusNetwork.from_pretrained(name)
    with pytest.raises(ValueError, match="revision must be text, not 5"):
        GlanceFocusNetwork.from_pretrained("me/nothing", revision=5)
    with pytest.raises(ValueError, match="is a folder, which has no revision 'v1'; omit it"):
        GlanceFocusNetwork.from_pretrained(tmp_path, revision="v1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError, match="the hub cannot be reached; check the network"):
        GlanceFocusNetwork.from_pretrained("me/nothing")
    with pytest.raises(ConnectionError, match="cannot reach the hub .*; check the network"):
        network.push_to_hub("me/digits", token=TOKEN)


def test_commands_push_and_pull(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run, theirs = FOLDER / "cluttered-digits", tmp_path / "theirs"
    push(PushConfig(repo_id="me/digits", run=run, license="mit"))
    pull(config := PullConfig(repo_id="me/digits", run=theirs))
    pushed, pulled = capsys.readouterr().out.splitlines()
    assert pushed.startswith(f"{hub.url}/me/digits/commit/")
    assert pulled == f"{theirs}: EarlyExitGFNet"
    assert read_json(theirs / "gfnet.json")["budgets"] == read_json(run / "gfnet.json")["budgets"]
    with pytest.raises(FileExistsError, match="already exists"):
        pull(config)
    with pytest.raises(FileNotFoundError, match="holds none of .*; give the folder of a network"):
        push(PushConfig(repo_id="me/digits", run=tmp_path))
