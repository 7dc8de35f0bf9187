# SPDX-License-Identifier: GPL-2.0
"""A timeline as one HTML file that needs nothing else: rows of bars, with the wheel to come closer."""

import dataclasses
import html
import json

# What a kind of bar looks like.
COLOURS = {
    "": "#5588aa", "bad": "#cc3333", "up": "#55aa55", "enabled": "#55aa55", "launch": "#ccaa33", "stale": "#cc8800",
    "held": "#cc8800", "preparing": "#cccc55", "down": "#aaaaaa", "closed": "#aaaaaa", "pages": "#aa66cc",
    "event": "#222222",
}  # fmt: skip
PAGE = """<!DOCTYPE html>
<meta charset="utf-8"><title>@TITLE@</title>
<style>
body { font: 13px sans-serif; margin: 1em }
canvas { border: 1px solid #ccc; cursor: grab; width: 100% }
#hint { height: 3em; white-space: pre-wrap }
</style>
<h1>@TITLE@</h1>
<p>Wheel: closer, further. Drag: to and fro. Double click: all of it.</p>
<canvas id="canvas"></canvas><p id="hint"></p>
<script type="application/json" id="data">
@DATA@
</script>
<script>
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("canvas"), hint = document.getElementById("hint");
const draw = canvas.getContext("2d"), HEIGHT = 24, NAMES = 190, SCALE = 22;
let start = 0, end = data.end, drag = null;

const x = (at) => NAMES + (at - start) / (end - start) * (canvas.width - NAMES);
const at = (px) => start + (px - NAMES) / (canvas.width - NAMES) * (end - start);

function paint() {
  canvas.width = canvas.clientWidth;
  canvas.height = SCALE + HEIGHT * data.rows.length;
  draw.font = "12px sans-serif";
  const step = 10 ** Math.ceil(Math.log10((end - start) / 10));
  draw.fillStyle = "#888";
  for (let tick = Math.ceil(start / step) * step; tick <= end; tick += step) {
    draw.fillRect(x(tick), 0, 1, canvas.height);
    draw.fillText(tick.toFixed(Math.max(0, -Math.log10(step))) + " s", x(tick) + 3, 13);
  }
  data.rows.forEach(([name, bars], row) => {
    const top = SCALE + row * HEIGHT;
    for (const [from, to, text, kind] of bars) {
      if (to < start || from > end) continue;
      const left = Math.max(x(from), NAMES), right = Math.min(x(to), canvas.width);
      draw.fillStyle = data.colours[kind];
      draw.fillRect(left, top + 2, Math.max(right - left, 1), HEIGHT - 5);
      if (right - left > draw.measureText(text).width + 4) {
        draw.fillStyle = "#fff";
        draw.fillText(text, left + 2, top + 15);
      }
    }
    draw.fillStyle = "#fff";
    draw.fillRect(0, top, NAMES, HEIGHT);
    draw.fillStyle = "#000";
    draw.fillText(name, 4, top + 15, NAMES - 8);
  });
}

function under(event) {
  const bars = data.rows[Math.floor((event.offsetY - SCALE) / HEIGHT)]?.[1] ?? [];
  const near = (end - start) / canvas.width * 2, time = at(event.offsetX);
  return bars.filter(([from, to]) => from - near <= time && time <= to + near).slice(0, 3);
}

canvas.onwheel = (event) => {
  event.preventDefault();
  const still = at(event.offsetX), factor = event.deltaY > 0 ? 1.3 : 1 / 1.3;
  [start, end] = [still + (start - still) * factor, still + (end - still) * factor];
  [start, end] = [Math.max(0, start), Math.min(data.end, Math.max(end, start + 1e-6))];
  paint();
};
canvas.onmousedown = (event) => { drag = at(event.offsetX); };
window.onmouseup = () => { drag = null; };
canvas.ondblclick = () => { [start, end] = [0, data.end]; paint(); };
canvas.onmousemove = (event) => {
  if (drag !== null) {
    const by = Math.min(Math.max(drag - at(event.offsetX), -start), data.end - end);
    [start, end] = [start + by, end + by];
    paint();
  }
  hint.textContent = under(event).map(([from, , , , hint]) => from.toFixed(6) + " s  " + hint).join("\\n");
};
window.onresize = paint;
paint();
</script>
"""


@dataclasses.dataclass
class Bar:
    start: float  # seconds
    end: float
    text: str
    kind: str  # of COLOURS
    hint: str


def follow(bars: list[Bar], bar: Bar) -> None:
    """Put a bar into a row of states, of which each lasts until the next one."""
    if bars:
        bars[-1].end = bar.start
    bars.append(bar)


def page(title: str, rows: dict[str, list[Bar]]) -> str:
    """Rows from above to below, each with its name. Times begin at 0 with the first bar."""
    bars = [bar for row in rows.values() for bar in row]
    first, last = min(bar.start for bar in bars), max(bar.end for bar in bars)
    data = {
        "end": max(last - first, 1e-6),
        "colours": COLOURS,
        "rows": [
            (name, [(round(b.start - first, 6), round(b.end - first, 6), b.text, b.kind, b.hint) for b in row])
            for name, row in rows.items()
        ],
    }
    # Nothing in a text may end the script.
    text = json.dumps(data).replace("</", "<\\/")
    return PAGE.replace("@TITLE@", html.escape(title)).replace("@DATA@", text)
