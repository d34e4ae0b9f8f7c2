"""What `skylight push` says to OpenSSH, to sudo and to shells, and how it judges what it sees; nobody is asked here."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from deploy.errors import UserError
from jetson.push.address import Address, read_address
from jetson.push.copy import Piece, sftp_lines
from jetson.push.questions import RESET, RESTART, STOP, Look, Page, Place, install_words, read_look, rollback_words
from jetson.push.watch import Judge

SUDOERS = Path(__file__).resolve().parents[2] / "jetson/package/sudoers.d/skylight"
ODD = "a b'c\"d$(id)`id`*;\\|&"
BEFORE = Look(load="loaded", active="active", process=7, current="old-1", page=Page(200, "ok"))
WELL = Look(load="loaded", active="active", process=8, current="new-2", started="new-2", page=Page(200, "ok"))


def test_sudoers_allows_exactly_what_is_called():
    text = re.sub(r"\\\n|#.*", "", SUDOERS.read_text())
    aliases = {name: words.split(", ") for name, words in re.findall(r"Cmnd_Alias (\w+) = (.*)", text)}
    allowed = {
        name: {" ".join(line.split()).partition("/bin/")[2] for line in lines} for name, lines in aliases.items()
    }
    place = Place()
    called = {" ".join(words[4:]) for words in (install_words(place), rollback_words(place))}
    assert allowed["SKYLIGHT_BUNDLES"] == called
    assert allowed["SKYLIGHT_SERVICE"] == {" ".join(words[2:]) for words in (RESTART, STOP, RESET)}
    assert "*" not in "".join(aliases["SKYLIGHT_BUNDLES"] + aliases["SKYLIGHT_SERVICE"])


def test_words_come_out_of_the_remote_shell_as_they_went_in():
    line = Address("drone").ssh(("printf", "%s\n", ODD, ""))[-1]
    done = subprocess.run(["sh", "-c", line], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == f"{ODD}\n\n"


def test_key_file_with_blanks_and_quotes_reaches_ssh_through_rsync(tmp_path):
    key = tmp_path / "my key's"
    key.touch()
    shell = next(word for word in Address("drone", identity=key).rsync(("a",), "/x") if word.startswith("--rsh="))
    # rsync doubles a quote within quotes; a shell would close, escape and open.
    assert shlex.split(shell.removeprefix("--rsh=").replace("''", "'\\''"))[-1] == str(key)


@pytest.mark.parametrize("host", ["-oProxyCommand=id", "a b", "drone;id", "", "pilot@", "-x@drone", "a\nb", "$(id)"])
def test_host_that_is_none_is_refused(host):
    with pytest.raises(UserError, match="is no"):
        read_address(host, None, None, None)


def test_address_of_ipv6_has_its_brackets_where_a_path_follows():
    address = read_address("pilot@[fe80::1%eth0]", None, 2222, None)
    assert address.rsync(("a",), "/x")[-1] == "[fe80::1%eth0]:/x/"
    assert address.ssh(("true",))[-2:] == ("fe80::1%eth0", "true")


def test_sftp_goes_on_in_what_is_begun_and_sends_anew_what_is_wrong():
    pieces = tuple(Piece(name, 10, "") for name in ("a", "b", "c"))
    lines = sftp_lines(pieces, {"a": 4, "b": 10}, '/x"\\y').splitlines()
    assert [line.split()[0] for line in lines] == ["reput", "put", "put"]
    assert lines[0] == 'reput "a" "/x\\"\\\\y/a"'


def test_what_a_drone_answers_is_not_trusted():
    lines = ["notes=[1]", "current=../../etc", "previous=-rf", "page=200 b'\\x1b'", "missing=rm -rf", "forbidden=99"]
    look = read_look([*lines, "MainPID=" + "9" * 5000, "NRestarts=-1", "noise"], Place())
    assert (look.current, look.previous, look.missing, look.forbidden) == (None, None, (), ())
    assert (look.process, look.restarts, look.failed) == (0, 0, {})


def judged(*looks: Look, before: Look = BEFORE) -> tuple[str | None, bool]:
    """The judgement of looks 5 s apart, of a bundle that must fly for 20 s."""
    judge = Judge("new-2", before, 20, 60)
    for number, look in enumerate(looks):
        problem, _ = judge.take(look, number * 5.0)
        if problem:
            return problem, judge.is_done
    return None, judge.is_done


def change(**changes: object) -> Look:
    return Look(**{**WELL.__dict__, **changes})


def test_judge_is_content_after_the_time_and_not_before():
    assert judged(*[WELL] * 4) == (None, False)
    assert judged(*[WELL] * 5) == (None, True)
    assert judged(*[BEFORE] * 3, *[WELL] * 4) == (None, False)  # the old process still ends


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (change(active="failed"), "failed"),
        (change(process=9), "started again"),
        (change(restarts=1), "started again"),
        (change(active="inactive", process=0), "is inactive"),
        (change(current="old-1"), "went back to old-1"),
        (change(failed={"new-2": "3 starts"}), "marked it: 3 starts"),
    ],
)
def test_judge_says_what_is_wrong_at_once(look, reason):
    assert reason in (judged(WELL, look)[0] or "")


def test_page_that_is_late_or_silent_counts_after_ten_seconds():
    late, blind = Page(503, "0.400 s old, limit 0.25 s"), Page(503, "nothing was seen yet")
    assert judged(WELL, *[change(page=late)] * 3) == (None, False)
    assert "0.400 s old" in (judged(WELL, *[change(page=late)] * 4)[0] or "")
    assert "nothing was seen" in (judged(WELL, *[change(page=blind)] * 4)[0] or "")
    assert judged(*[change(page=blind)] * 5, before=Look(page=blind)) == (None, True)
    assert judged(*[change(page=Page())] * 5, before=Look()) == (None, True)
    assert "nobody answers" in (judged(*[change(page=Page())] * 5)[0] or "")


def test_service_that_never_gets_ready_is_given_up():
    starting = change(active="activating", sub="start")
    assert "no READY within 60 s" in (judged(*[starting] * 14)[0] or "")
