// A button to copy each cell of code, the keyboard's focus for what scrolls, and Escape to close a drawer.
(() => {
  "use strict";
  for (const box of document.querySelectorAll(".cell_input .highlight, .highlight-python .highlight, .highlight-bash .highlight")) {
    if (!navigator.clipboard) break; // as on a page from an address without encryption
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(box.querySelector("pre").innerText.trimEnd());
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    box.append(button);
  }
  document.addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    for (const toggle of document.querySelectorAll(".sidebar-toggle:checked")) {
      toggle.checked = false;
      toggle.focus();
    }
  });
  const boxes = document.querySelectorAll("pre, .formula, .table-wrapper, .cell_output .output, .sidebar-scroll, .toc-scroll");
  const watch = new ResizeObserver((entries) => {
    // Measure all before any changes, or the browser lays the page out anew for each.
    const boxes = entries.map(({ target: box }) => [
      box,
      box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight,
    ]);
    for (const [box, scrolls] of boxes) {
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  });
  boxes.forEach((box) => watch.observe(box));
})();
