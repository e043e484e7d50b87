// Sets the figures of aelib.book in motion. Where this does not run, their static picture stays.
(() => {
  "use strict";
  const own = document.currentScript.src;
  let count = 0;

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  // A range input with its label, the value in words, and buttons for single steps; show(i) draws position i.
  function control(label, texts, start, show) {
    const id = `ae-${(count += 1)}`;
    const last = texts.length - 1;
    const value = element("span", { class: "ae-value", "aria-hidden": "true" });
    const input = element("input", { type: "range", id, min: 0, max: last, autocomplete: "off" });
    const back = element("button", { type: "button", "aria-label": `${label}: previous` }, "‹");
    const forth = element("button", { type: "button", "aria-label": `${label}: next` }, "›");
    const go = (wanted) => {
      const i = Math.min(last, Math.max(0, wanted));
      input.value = i;
      input.setAttribute("aria-valuetext", texts[i]);
      value.textContent = texts[i];
      back.setAttribute("aria-disabled", i === 0); // not "disabled", which would throw the focus out
      forth.setAttribute("aria-disabled", i === last);
      show(i);
    };
    input.addEventListener("input", () => go(input.valueAsNumber));
    back.addEventListener("click", () => go(input.valueAsNumber - 1));
    forth.addEventListener("click", () => go(input.valueAsNumber + 1));
    const head = element("div", { class: "ae-head" }, element("label", { for: id }, label), value);
    const line = element("div", { class: "ae-line" }, back, input, forth);
    return { node: element("div", { class: "ae-control" }, head, line), input, go, start: () => go(start) };
  }

  // A window on one tile of the sheet of pictures that is the figure's static image.
  function tile(sheet, data) {
    const image = element("img", { class: "ae-sheet", src: sheet.src, alt: "" });
    const frame = element("div", { class: "ae-frame", role: "img" }, image);
    image.style.width = `${100 * data.columns}%`;
    frame.style.aspectRatio = `${data.width} / ${data.height}`;
    frame.style.maxWidth = sheet.style.maxWidth;
    const show = (row, column, text) => {
      image.style.top = `${-100 * row}%`;
      image.style.left = `${-100 * column}%`;
      frame.setAttribute("aria-label", text);
    };
    return { node: frame, show };
  }

  function slider(data, sheet) {
    const picture = tile(sheet, data);
    const nodes = [picture.node];
    if (data.reference) {
      const fixed = tile(sheet, data);
      fixed.show(0, 0, data.reference);
      nodes.unshift(element("div", { class: "ae-name", "aria-hidden": "true" }, data.reference), fixed.node);
    }
    const texts = data.values.map((value, i) => value + (data.captions ? `: ${data.captions[i]}` : ""));
    const range = control(data.label, texts, data.start, (i) =>
      picture.show(i + (data.reference ? 1 : 0), 0, `${data.label} ${texts[i]}`),
    );
    range.start();
    return [...nodes, range.node];
  }

  function grid([name, rows, marks]) {
    const table = element("table", { class: "ae-grid" }, element("caption", {}, name));
    table.style.setProperty("--rows", rows.length);
    table.style.setProperty("--columns", rows[0].length);
    table.style.setProperty("--letters", Math.max(...rows.flat().map((text) => text.length)));
    rows.forEach((row, r) => {
      const line = table.insertRow();
      row.forEach((text, c) => {
        const cell = line.insertCell();
        cell.textContent = text;
        cell.className = { w: "ae-window", r: "ae-result" }[marks[r][c]] ?? (text === "0" ? "ae-zero" : "");
      });
    });
    return table;
  }

  function stepper(data) {
    const grids = element("div", { class: "ae-grids" });
    const text = element("p", { class: "ae-text" });
    const texts = data.steps.map((_, i) => `${i + 1} of ${data.steps.length}`);
    const range = control(data.label, texts, data.start, (i) => {
      // The range speaks its own value; the line speaks only when a button moved the figure.
      text.setAttribute("aria-live", document.activeElement === range.input ? "off" : "polite");
      range.input.setAttribute("aria-valuetext", `${texts[i]}: ${data.steps[i].text}`);
      grids.replaceChildren(...data.steps[i].grids.map(grid));
      text.textContent = data.steps[i].text;
    });
    range.start();
    return [grids, text, range.node];
  }

  function explorer(data, sheet) {
    const [across, up] = data.labels;
    const rows = data.y.length;
    const picture = tile(sheet, data);
    const marker = element("div", { class: "ae-marker" });
    const map = element("div", { class: "ae-map", "aria-hidden": "true" }, marker);
    if (data.points) map.prepend(scatter(data.points));
    else map.prepend(element("img", { class: "ae-sheet", src: sheet.src, alt: "" }));
    map.style.aspectRatio = `${data.columns * data.width} / ${rows * data.height}`;
    marker.style.width = `${100 / data.columns}%`;
    marker.style.height = `${100 / rows}%`;
    const show = () => {
      const [column, level] = [x.input.valueAsNumber, y.input.valueAsNumber];
      const row = rows - 1 - level; // the sheet begins at the top, the axis at the bottom
      marker.style.left = `${(100 * column) / data.columns}%`;
      marker.style.top = `${(100 * row) / rows}%`;
      picture.show(row, column, `decoded at ${across} ${data.x[column]}, ${up} ${data.y[level]}`);
    };
    const x = control(across, data.x, data.start[0], show);
    const y = control(up, data.y, data.start[1], show);
    const point = (event) => {
      const box = map.getBoundingClientRect();
      x.go(Math.floor(((event.clientX - box.left) / box.width) * data.columns));
      y.go(Math.floor(((box.bottom - event.clientY) / box.height) * rows));
    };
    map.addEventListener("pointermove", point);
    map.addEventListener("pointerdown", point);
    x.start();
    y.start();
    return [element("div", { class: "ae-pair" }, map, picture.node), x.node, y.node];
  }

  function scatter(points) {
    const shape = (tag, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
      return node;
    };
    const svg = shape("svg", { viewBox: "0 0 1000 1000", preserveAspectRatio: "none" });
    for (const [x, y, label] of points) {
      const node = label === "" ? shape("circle", { cx: x, cy: y, r: 8 }) : shape("text", { x, y });
      node.textContent = label;
      svg.append(node);
    }
    return svg;
  }

  const kinds = { slider, stepper, explorer };
  window.aelibFigures = { element, control, scatter, kinds }; // what live.js builds on, and adds its kinds to

  function upgrade(figure, data = JSON.parse(figure.dataset.figure)) {
    try {
      const sheet = figure.querySelector("img");
      const made = kinds[figure.dataset.kind](data, sheet);
      const nodes = made.nodes ?? made;
      if (data.caption) nodes.unshift(element("p", { class: "ae-caption" }, data.caption));
      figure.append(element("div", { class: "ae-live" }, ...nodes));
      figure.setAttribute("aria-label", sheet.alt); // in place of the caption, which tells of the static picture
      figure.classList.add("ae-on");
      figure.live = made.state; // for tests and the console
    } catch (error) {
      console.error("this figure keeps its static picture", figure, error);
    }
  }

  // Figures that run a net bring a script and a style of their own, loaded when the first comes near; a built
  // page also keeps each one's data in a file.
  const done = (node, place) =>
    new Promise((resolve, reject) => {
      node.addEventListener("load", resolve);
      node.addEventListener("error", () => reject(new Error(`could not load ${node.src ?? node.href}`)));
      place.append(node);
    });
  const at = (name) => new URL(name, own).href;
  let loaded;
  function load(format) {
    const version = `?format=${format}`; // a new format is a new address
    loaded ??= Promise.all([
      done(element("link", { rel: "stylesheet", href: at(`live.css${version}`) }), document.head),
      done(element("script", { src: at(`live.js${version}`) }), document.head),
    ]);
    return loaded;
  }
  async function data(figure) {
    const { source } = figure.dataset;
    if (!source) return JSON.parse(figure.dataset.figure);
    if (!window.aelibData?.[source]) await done(element("script", { src: at(`live/${source}.js`) }), document.head);
    return window.aelibData[source];
  }
  async function awaken(figure) {
    try {
      const found = await data(figure);
      await load(found.format);
      upgrade(figure, found);
    } catch (error) {
      console.error("this figure keeps its static picture", figure, error);
    }
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        awaken(target);
      }
    },
    { rootMargin: "600px" },
  );

  // Questions: a button checks the chosen answer, opens the reason and counts the right ones.
  function ask(quiz) {
    const questions = [...quiz.querySelectorAll("fieldset")];
    const score = element("p", { class: "ae-score", role: "status" });
    const results = new Map();
    const reasons = questions.map((question) => question.querySelector("details"));
    questions.forEach((question, i) => {
      const verdict = element("span", { class: "ae-verdict" });
      const check = element("button", { type: "button", "aria-label": `check answer ${i + 1}` }, "Check");
      check.addEventListener("click", () => {
        const chosen = question.querySelector("input:checked");
        if (!chosen) {
          verdict.textContent = "Choose an answer first.";
          score.textContent = `Question ${i + 1}: choose an answer first.`;
          return;
        }
        const right = chosen.value === question.dataset.answer;
        results.set(i, right);
        reasons[i].open = true;
        question.className = right ? "ae-right" : "ae-wrong";
        verdict.textContent = right ? "Right." : "Not right: see the answer below.";
        const count = [...results.values()].filter(Boolean).length;
        score.textContent = `Question ${i + 1}: ${right ? "right" : "not right"}. ${count} of ${questions.length} right.`;
      });
      question.addEventListener("change", () => {
        verdict.textContent = "";
        question.className = "";
      });
      reasons[i].open = false;
      reasons[i].before(element("div", { class: "ae-check" }, check, verdict));
    });
    // Print shows all the reasons, and leaves the page as it was.
    let open = [];
    window.addEventListener("beforeprint", () => {
      open = reasons.map((reason) => reason.open);
      for (const reason of reasons) reason.open = true;
    });
    window.addEventListener("afterprint", () => reasons.forEach((reason, i) => (reason.open = open[i] ?? reason.open)));
    quiz.append(score);
    quiz.classList.add("ae-on");
  }

  const start = () => {
    document.querySelectorAll(".ae-quiz:not(.ae-on)").forEach(ask);
    for (const figure of document.querySelectorAll(".ae-interactive:not(.ae-on)")) {
      if (figure.dataset.kind.startsWith("live-")) near.observe(figure);
      else upgrade(figure);
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
