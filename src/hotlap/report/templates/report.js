"use strict";
// Draws the charts of a report, switches its theme, sorts and filters the table of runs, and hands tables out as CSV.
// The page is complete without it, but for the charts.
(() => {
  const root = document.documentElement;
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: page.name },
  };

  // Theme: what the address asks for (?theme=dark), else what was chosen here before, else the system's.
  const remembered = () => {
    try {
      return localStorage.getItem("hotlap-theme");
    } catch {
      return null; // a page from disk may have no storage
    }
  };
  const asked = new URLSearchParams(location.search).get("theme") || remembered();
  if (asked === "dark" || asked === "light") root.dataset.theme = asked;
  const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";
  const textColor = () => getComputedStyle(root).getPropertyValue("--text").trim();
  const recolor = () => {
    for (const element of document.querySelectorAll(".chart.drawn")) {
      Plotly.relayout(element, { "font.color": textColor() });
    }
  };
  const toggle = document.getElementById("theme");
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("hotlap-theme", root.dataset.theme);
    } catch {
      // it holds for this visit
    }
    recolor();
  });
  prefersDark.addEventListener("change", recolor);

  // CSV: of the runs with their exact values, of every other table as it stands there.
  const quoted = (value) => {
    const text = value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const download = (name, rows) => {
    const text = rows.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `${name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const table = document.getElementById("runs-table");
  const textsOf = (some) => [...some.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
  for (const some of document.querySelectorAll("table.data")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "CSV";
    const owner = some.closest("section").id;
    const rows = some === table ? () => [page.runs.headers, ...page.runs.rows] : () => textsOf(some);
    button.addEventListener("click", () => download(`${page.name}-${owner}`, rows()));
    some.caption.append(" ", button);
  }

  // Sorting: numbers by size, texts by name, what is not known last in both directions.
  const body = table.tBodies[0];
  const rowElements = [...body.rows];
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((cell, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = cell.textContent;
    cell.replaceChildren(button);
    button.addEventListener("click", () => {
      const direction = cell.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const value = (index) => page.runs.rows[index][column];
      const order = rowElements.map((_, index) => index).sort((a, b) => {
        if (value(a) === null || value(b) === null) return (value(a) === null) - (value(b) === null) || a - b;
        return direction * compare(value(a), value(b)) || a - b;
      });
      body.append(...order.map((index) => rowElements[index]));
    });
  });

  // Charts come after the tables: whatever a browser cannot draw, those work.
  for (const [key, figure] of Object.entries(page.figures)) {
    const element = document.getElementById(`chart-${key}`);
    const font = { ...figure.layout.font, color: textColor() };
    Plotly.newPlot(element, figure.data, { ...figure.layout, font }, config);
    element.classList.add("drawn");
  }

  // Brushing: runs outside the ranges that are drawn on the axes leave the table.
  const parallel = document.getElementById("chart-parallel");
  if (parallel) {
    const indexOf = new Map(page.runs.rows.map((row, index) => [row[0], index]));
    const isInside = (dimension, place) => {
      const range = dimension.constraintrange;
      if (!range || !range.length) return true;
      const ranges = Array.isArray(range[0]) ? range : [range];
      return ranges.some(([low, high]) => low <= dimension.values[place] && dimension.values[place] <= high);
    };
    parallel.on("plotly_restyle", () => {
      const dimensions = parallel.data[0].dimensions;
      const isBrushed = dimensions.some((dimension) => dimension.constraintrange && dimension.constraintrange.length);
      const chosen = new Set(
        page.order.filter((_, place) => dimensions.every((dimension) => isInside(dimension, place))),
      );
      rowElements.forEach((row) => (row.hidden = false));
      if (isBrushed) {
        for (const [runId, index] of indexOf) rowElements[index].hidden = !chosen.has(runId);
      }
      const told = isBrushed ? `${chosen.size} of ${page.order.length} runs chosen; the table shows these.` : "";
      document.getElementById("chosen").textContent = told;
      document.getElementById("shown").textContent = isBrushed ? `, ${chosen.size} of them shown: those chosen above` : "";
    });
  }
})();
