import io

from rich.table import Table

from gfnet_env.console import Bars, PlainConsole, PlainTable, track


def test_text_is_printed_as_it_is(capsys):
    table = Table("[/x] class")
    table.add_row("[red]run")
    console = PlainConsole(width=80)
    console.print("[/x]run", table)
    console.rule("[/x]run")
    with console.status("test images of [/x]run"):
        pass
    printed = capsys.readouterr().out
    for text in ("[/x]run", "[/x] class", "[red]run", "test images of [/x]run"):
        assert text in printed


def test_without_a_terminal_progress_is_shown_in_lines(capsys):
    with Bars(seconds=0.0) as bars:
        bar = bars.add_task("stage 2", total=2000)
        bars.update(bar, completed=1000)
        bars.advance(bar)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("stage 2: 1,000 of 2,000, 0 s")
    assert lines[1].startswith("stage 2: 1,001 of 2,000")
    assert list(track([1, 2], "features")) == [1, 2]
    # A minute is a long time, and a terminal has bars.
    assert " of 2" not in capsys.readouterr().out
    with Bars(seconds=0.0) as bars:
        bars.console._force_terminal = True
        bars.console.file = io.StringIO()
        bars.advance(bars.add_task("stage 2", total=2000))
    assert "1 of 2,000" not in bars.console.file.getvalue()


def test_headings_of_a_table_break_between_words_only(capsys):
    table = PlainTable("accuracy", "multiply-adds", *(f"look {n}" for n in range(12)))
    table.add_row("97.0%", "1,234.56 M", *["100%"] * 12)
    PlainConsole(width=80).print(table)
    shown = capsys.readouterr().out
    assert "multiply-adds" in shown
    assert "…" not in shown
    table = PlainTable("algorithm", "accuracy")
    table.add_row("my_ppo:MyProximalPolicyOptimisation", "97.0%")
    PlainConsole(width=30).print(table)
    assert "Optimisation" in "".join(capsys.readouterr().out.replace("97.0%", "").split())
