// Looks up one layout of the grid after another as the sliders move. All numbers of memory and steps come from
// the page's data; time and rent of the run are products of these, as in Python.
(function (all) {
  "use strict";
  var steps = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
  var times = [[31536000, "years"], [86400, "days"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "us"]];
  function digits(x) { return String(Number(x.toPrecision(4))); }
  function bytes(x) {
    var unit = steps.find(function (s) { return x >= s[0]; }) || [1, ""];
    return digits(x / unit[0]) + " " + unit[1] + "B";
  }
  function seconds(x) {
    var unit = times.find(function (t) { return x >= t[0]; }) || [1e-9, "ns"];
    return digits(x / unit[0]) + " " + unit[1];
  }
  function dollars(x) {
    var options = x >= 100 ? { maximumFractionDigits: 0 }
      : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
    return x.toLocaleString("en-US", options) + " USD";
  }
  function between(ends, show) {
    return show(ends[1]) + " (" + show(ends[0]) + " to " + show(ends[2]) + ")";
  }

  function start(root) {
    var data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    var sliders = data.axes.map(function (axis) { return root.querySelector("[name='" + axis[0] + "']"); });
    function find(name) { return root.querySelector("[data-say='" + name + "']"); }
    function at(i) { return Number(sliders[i].value); }

    function draw() {
      var last = data.axes.length - 1, index = 0, value = {};
      data.axes.forEach(function (axis, i) {
        value[axis[0]] = axis[1][at(i)];
        var text = String(axis[1][at(i)]);
        sliders[i].setAttribute("aria-valuetext", text);
        sliders[i].nextElementSibling.textContent = text;
        if (i < last) { index = index * axis[1].length + at(i); }
      });
      var cell = data.cells[index], gpu = at(last), has = data.memory[gpu];
      var gpus = value.dp * value.tp * value.pp * data.cp;
      find("gpus").textContent = gpus.toLocaleString("en-US") + " " + value.gpu;
      var none = typeof cell === "number";
      root.querySelector("table[data-say='parts']").hidden = none;
      var peak = none ? 0 : cell[0].reduce(function (sum, part) { return sum + part; }, 0);
      var most = Math.max(peak, has);
      find("fits").textContent = none ? "no such layout: " + data.why[cell]
        : peak <= has ? "it fits: " + bytes(peak) + " of " + bytes(has)
        : "it does not fit: " + bytes(peak) + ", " + bytes(peak - has) + " more than " + bytes(has);
      var below = 0;
      data.parts.forEach(function (name, i) {
        var size = none ? 0 : cell[0][i], row = root.querySelector("tr[data-part='" + name + "']");
        row.hidden = !size;
        row.children[1].textContent = bytes(size);
        row.children[2].textContent = (peak ? 100 * size / peak : 0).toFixed(1) + "%";
        row.children[3].firstElementChild.style.width = (16 * size / most).toFixed(2) + "em";
        row.children[3].firstElementChild.style.marginLeft = (16 * below / most).toFixed(2) + "em";
        below += size;
      });
      find("mark").style.left = (16 * has / most).toFixed(2) + "em";
      var step = none ? null : cell[1][gpu];
      find("step").textContent = none ? "-" : between(step, seconds);
      if (!data.tokens) { return; }
      var batch = data.batch || value.dp * value.micro_batch;
      var times = data.tokens / (batch * value.context);
      var run = none ? null : step.map(function (s) { return s * times; });
      find("time").textContent = none ? "-" : between(run, seconds);
      var rent = data.rents[gpu];
      find("cost").textContent = none || !rent ? "-" : between(run.map(function (s, i) {
        return s * (gpus / 3600) * rent[i];
      }), dollars);
    }

    sliders.forEach(function (slider) { slider.addEventListener("input", draw); });
    root.querySelector("[data-say='live']").hidden = false;
    root.querySelector("details").open = false;
    draw();
  }

  all.forEach(function (root) {
    if (!root.dataset.started) { root.dataset.started = "yes"; start(root); }
  });
})(document.querySelectorAll("[data-explorer]"));
