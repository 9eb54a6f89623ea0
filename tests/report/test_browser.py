"""Pages in a real browser: what is clicked, typed and seen."""

from __future__ import annotations

import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fftasks.report.diagram import DiagramNode
from fftasks.report.page_content import PageRun, PageTask, Phase, make_page_content
from fftasks.report.result_documents import ResultDocument
from fftasks.report.web_page import BoardApplication, format_page, serve_board
from tests.report.sample_run import HOSTILE, make_sample
from tests.services.cluster import Cluster
from tests.services.kfp_server import KFPServer
from tests.services.launcher import Ending
from tests.submitted_project import make_project, submit_project

FAILED = '"quotes" & <b>'
CHOOSE = """
    const state = document.querySelector("#state");
    state.value = "skipped";
    state.dispatchEvent(new Event("change"));
"""
CLICK = """
    const shapes = [...document.querySelectorAll("#graph .node")];
    shapes.find((shape) => shape.textContent.includes("pick 2")).dispatchEvent(new MouseEvent("click"));
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Give a project that has run twice."""
    sample = make_sample(tmp_path_factory.mktemp("page") / "<project>")
    sample.doit("run", "-c", code=1)
    sample.edit("wf.py", "x / 4", "x / 5")
    sample.doit("run", "-c", code=1)
    sample.doit("report")
    return sample


@pytest.fixture
def page(browser, sample):
    """Give a browser with the report open; at the end, its console must have said nothing."""
    browser.use_media()
    browser.open((sample.root / ".fftasks" / "report.html").as_uri())
    yield browser
    assert browser.read_console() == []


def list_names(page):
    return [row.get_attribute("data-name") for row in page.find_all("#table .body .row")]


def type_keys(page, keys, selector="body"):
    page.find(selector).send_keys(keys)


def test_a_failing_node_is_followed_to_its_error_and_its_log(page):
    failure = page.find("#failures li")
    assert FAILED in failure.text
    assert "ValueError: <img src=x onerror=alert(1)> & co" in failure.text

    failure.find_element("css selector", "button").click()

    assert page.find("#details h2").text == FAILED
    assert "raise ValueError" in page.find("#details .error").text
    log = page.find("#details .log").text
    assert log.endswith("the last words")
    assert "characters more" in log
    assert len(log) < 70_000


def test_hostile_texts_are_shown_as_text(page):
    name = f"values {HOSTILE}"

    page.find(f'#table .row[data-name="{name}"]').click()

    assert page.find("#details h2").text == name
    assert HOSTILE in page.run("return document.querySelector('#graph svg').textContent")
    assert (
        page.run("return document.querySelectorAll('main script, main img[src=x], main b').length")
        == 0
    )
    assert "<project>" in page.driver.title


def test_secrets_are_nowhere_in_the_file(page, sample):
    text = (sample.root / ".fftasks" / "report.html").read_text()

    page.find(f'#table .row[data-name="values {HOSTILE}"]').click()

    assert "hunter2secret" not in text
    assert "ghp_a1B2" not in text
    assert page.find("#details .log").text == "loading with ••• and •••"


def test_values_are_nowhere_in_the_file_where_they_are_not_wanted(sample):
    path = sample.root / ".fftasks" / "without.html"
    sample.doit("report", "-o", str(path), FFTASKS_REPORT__PREVIEWS="false")

    text = path.read_text()
    assert "scored" in text
    values = (
        "&amp; co",
        "& co",
        "\\u0026 co",
        "loading with",
        '"mean"',
        "[0, 1, 2",
        "A text",
        "base64",
    )
    assert [value for value in values if value in text.partition('id="data"')[2]] == []


def test_a_click_on_a_title_sorts_and_a_second_one_turns_it(page):
    title = page.find("#table .head > :nth-child(2) button")
    before = list_names(page)

    title.click()
    up = list_names(page)
    title.click()

    assert up == sorted(before, key=str.lower)
    assert list_names(page) == up[::-1]
    assert page.find("#table .head > :nth-child(2)").get_attribute("aria-sort") == "descending"


def test_typing_searches_and_states_are_chosen(page):
    type_keys(page, "/")
    type_keys(page, "pick 2", "#search")
    assert list_names(page) == ["pick 2"]
    page.find("#search").clear()
    page.run(CHOOSE)

    assert page.find("#found").text.startswith("1 of") or list_names(page) == ["after"]
    assert list_names(page) == ["after"]


def test_the_keyboard_is_enough(page):
    from selenium.webdriver.common.keys import Keys

    table = page.find("#table")
    table.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    second = list_names(page)[1]
    assert page.find("#details h2").text == second
    assert page.find("#table .chosen").get_attribute("data-name") == second

    table.send_keys(Keys.ESCAPE)

    assert not page.find("#details").is_displayed()


def test_a_result_that_is_a_picture_is_one(page):
    page.find('#table .row[data-name="plot"]').click()

    assert page.run("return document.querySelector('#details img').naturalWidth") == 1


def test_a_text_for_people_is_set_and_its_markup_is_text(page):
    page.find('#table .row[data-name="told"]').click()

    frame = page.find("#details iframe")
    page.driver.switch_to.frame(frame)
    assert page.find("h1").text == "<i>A text</i>"
    page.driver.switch_to.default_content()


def test_a_page_of_a_result_is_seen_and_its_scripts_do_not_run(browser, tmp_path):
    hostile = "<p style='color: rgb(1, 2, 3)'>seen</p><script>document.body.append('ran')</script>"
    task = PageTask("page", "ran", documents=(ResultDocument("Page", hostile),))
    run = PageRun("r", "ran", 0.0, 1.0)
    path = tmp_path / "page.html"
    path.write_text(format_page(make_page_content("t", run, [task], items=(), render=lambda _: "")))
    browser.use_media()
    browser.open(path.as_uri() + "#page")

    assert browser.find("#details iframe").get_attribute("sandbox") == ""
    browser.driver.switch_to.frame(browser.find("#details iframe"))
    assert browser.find("body").text == "seen"
    assert browser.find("p").value_of_css_property("color") == "rgba(1, 2, 3, 1)"
    browser.driver.switch_to.default_content()
    browser.read_console()  # it says that a script was blocked


def test_metrics_and_the_last_runs_stand_side_by_side(page):
    page.find('#table .row[data-name="scored"]').click()

    assert "mean\n0.4" in page.find("#details").text
    head, latest, before = (row.text for row in page.find_all("#history tr"))
    assert "scored mean" in head
    assert ("0.4" in latest, "0.5" in before) == (True, True)


def test_a_shape_of_the_graph_opens_its_node(page):
    page.run(CLICK)

    assert page.find("#details h2").text == "pick 2"


def test_an_address_leads_to_a_node(page, sample):
    page.open((sample.root / ".fftasks" / "report.html").as_uri() + "#pick%201")

    assert page.find("#details h2").text == "pick 1"


def test_a_bar_of_the_timeline_opens_its_task_and_the_longest_path_is_marked(page):
    bars = page.find_all("#time .bars button")
    assert page.find_all("#time .bars button.path")
    assert page.find_all("#path li")

    bars[0].click()

    assert page.find("#details").is_displayed()


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_at_any_width_and_text_can_be_read(
    page, sample, width, scheme, tmp_path
):
    page.use_media(scheme=scheme)
    page.open((sample.root / ".fftasks" / "report.html").as_uri() + "#scored", width, 1600)

    page.take_picture(tmp_path / f"{width}-{scheme}.png")

    seen = page.run("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert seen[0] <= seen[1]
    script = (
        "const s = getComputedStyle(document.documentElement); return [s.color, s.backgroundColor]"
    )
    text, back = (sum(map(int, c[c.index("(") + 1 : -1].split(",")[:3])) for c in page.run(script))
    assert (text < 200 and back > 700) if scheme == "light" else (text > 600 and back < 100)


def test_what_somebody_reads_stays_where_it_is_when_the_board_is_drawn_anew(browser, tmp_path):
    tasks = [
        PageTask(
            "long",
            "running",
            begin=0.0,
            log="line\n" * 500,
            documents=(ResultDocument("Page", "x"),),
        )
    ]
    run = PageRun("r", "running", 0.0, None)
    path = tmp_path / "page.html"
    path.write_text(format_page(make_page_content("t", run, tasks, items=(), render=lambda _: "")))
    browser.use_media()
    browser.open(path.as_uri() + "#long")
    browser.run("document.querySelector('#details .log').scrollTop = 300")
    browser.run("document.querySelector('#details iframe').dataset.same = 'yes'")

    browser.run("draw()")
    assert browser.run("return document.querySelector('#details iframe').dataset.same") == "yes"
    browser.run("data.tasks[0].seconds = 9; draw()")

    assert browser.run("return document.querySelector('#details iframe').dataset.same") is None
    assert browser.run("return document.querySelector('#details .log').scrollTop") == 300


def test_a_bar_of_what_still_runs_reaches_the_end_of_what_is_known(browser, tmp_path):
    tasks = [
        PageTask("done", "ran", begin=100.0, end=104.0),
        PageTask("runs", "running", begin=104.0, phases=(Phase("queue", 104.0, 110.0),)),
    ]
    path = tmp_path / "page.html"
    run = PageRun("r", "running", 100.0, None)
    path.write_text(format_page(make_page_content("t", run, tasks, items=(), render=lambda _: "")))
    browser.use_media()
    browser.open(path.as_uri())

    done, runs = (bar.rect["width"] for bar in browser.find_all("#time .bars button"))
    assert runs / done == pytest.approx(6 / 4, rel=0.05)


def test_on_paper_every_row_is_there_and_no_tool(page):
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    page.use_media(media="print")

    assert len(list_names(page)) == 9
    assert not page.find(".tools").is_displayed()


def test_five_thousand_nodes_scroll_sort_and_search_without_stutter(browser, tmp_path):
    tasks = [
        PageTask(f"node {n}", "ran", "never ran", n / 10, n / 10 + 0.3, 0.2, function="f")
        for n in range(5000)
    ]
    items = [DiagramNode(task.name, "f", (), "w", "ran") for task in tasks]
    run = PageRun("big", "ran", 0.0, 500.0)
    path = tmp_path / "big.html"
    path.write_text(
        format_page(make_page_content("big", run, tasks, items=items, render=lambda _: ""))
    )
    browser.use_media()
    browser.open(path.as_uri())

    took_ms = browser.run("""
        const begin = performance.now();
        const box = document.querySelector("#table");
        for (let step = 0; step < 50; step++) { box.scrollTop = step * 3000; table.draw(); box.offsetHeight; }
        table.sort(1); box.offsetHeight;
        document.querySelector("#search").value = "node 49"; filter(); box.offsetHeight;
        return performance.now() - begin;
    """)

    assert (
        took_ms < 52 * 50
    )  # a twentieth of a second for each, on a machine that does other things too
    assert browser.find("#found").text == "199 of 5000"
    assert len(browser.find_all("#table .body .row")) < 80
    assert len(browser.find_all("#time .bars button")) <= 5000
    assert browser.read_console() == []


def test_the_board_follows_a_run_and_says_when_it_ends(browser, tmp_path):
    text = "import time\nfrom pathlib import Path\nfrom fftasks import Workflow, workflow\n\n\n@workflow\n"
    text += "def wait():\n    while not Path('go').exists():\n        time.sleep(0.05)\n\n\n"
    sample = make_sample(tmp_path)
    sample.write("wf.py", text + 'Workflow(wait().set_name("waiting"), name="w")\n')
    board = sample.start("board", "--port", "0")
    address = board.stdout.readline().split()[0]
    browser.use_media()
    browser.open(address)
    assert "there is no run here yet" in browser.find("#away").text

    run = sample.start()
    wait_for(lambda: "running" in browser.find("#counts").text)
    sample.write("go", "")
    run.communicate()
    wait_for(lambda: browser.find("#counts").text == "● 1 ran")
    assert browser.read_console() == []
    board.send_signal(signal.SIGINT)
    output, _ = board.communicate(timeout=30)

    assert (board.returncode, output) == (0, "\n")
    wait_for(lambda: "has ended" in browser.find("#away").text)


def test_a_board_can_be_reloaded_and_gives_nothing_to_other_servers_of_this_machine(
    browser, tmp_path
):
    with Listener() as other:
        document = f"""<meta name="referrer" content="unsafe-url">
            <meta http-equiv="refresh" content="0; url={other.address}/refresh">
            <img referrerpolicy="unsafe-url" src="{other.address}/image">
            <a id="leave" referrerpolicy="unsafe-url" href="{other.address}/link">x</a>"""
        run = PageRun("r", "ran", 0.0, 1.0)
        task = PageTask("planted", "ran", documents=(ResultDocument("Page", document),))
        content = make_page_content("secret", run, [task], items=(), render=lambda _: "")
        board, told = BoardApplication(lambda: content, content), []
        threading.Thread(target=serve_board, args=(board, 0, told.append), daemon=True).start()
        wait_for(lambda: told)
        browser.use_media()
        browser.open(f"{told[0]}#planted")
        browser.driver.refresh()
        wait_for(lambda: browser.find("#details h2").text == "planted")
        assert board.token in browser.run("return location.href")
        time.sleep(2)  # the page has asked for its data again
        assert browser.find("#away").text == ""
        frame = browser.find("#details iframe")
        browser.driver.switch_to.frame(frame)
        browser.find("#leave").click()
        browser.driver.switch_to.default_content()
        browser.run(f"location.href = '{other.address}/away'")
        wait_for(lambda: any("/away" in line for line in other.lines))

        address = told[0].partition("?")[0]
        for script in ("data.json", ""):
            for mode in ("cors", "no-cors"):
                found = browser.driver.execute_async_script(
                    f"""const done = arguments[0];
                    fetch("{address}{script}", {{mode: "{mode}", credentials: "include"}})
                    .then((answer) => answer.text()).then(done, (error) => done(""));"""
                )
                assert "secret" not in (found or "")
        assert browser.run("return document.cookie + document.referrer") == ""
        told_others = "\n".join(other.lines)
        assert board.token not in told_others
        assert "secret" not in told_others
    browser.read_console()


class Listener:
    """A server of somebody else at another port of this machine; lines: all that browsers sent to it."""

    def __init__(self):
        self.lines = []
        lines = self.lines

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                lines.extend([self.requestline, *str(self.headers).splitlines()])
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<!DOCTYPE html><title>other</title>")

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def test_the_board_follows_a_run_on_the_cluster(browser, tmp_path):
    gate = threading.Event()

    def launch(_pod):
        gate.wait(30)
        return Ending()

    with KFPServer(Cluster(launch, tmp_path / "cluster")) as server:
        sample = make_project(tmp_path / "project", server)
        submit_project(sample)
        board = sample.start("board", "--cluster", "--port", "0")
        browser.use_media()
        browser.open(board.stdout.readline().split()[0])
        wait_for(lambda: "1 running" in browser.find("#counts").text)
        assert "2 waiting" in browser.find("#counts").text

        gate.set()
        wait_for(lambda: browser.find("#counts").text == "● 3 ran")

        assert {row.text for row in browser.find_all("#path-seconds dt")} >= {"run"}
        assert browser.read_console() == []
        board.send_signal(signal.SIGINT)
        board.communicate(timeout=30)


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
