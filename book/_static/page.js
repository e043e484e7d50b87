// A button to copy each cell of code, and the keyboard's focus for what scrolls.
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
  const boxes = document.querySelectorAll("pre, .formula, .table-wrapper, .cell_output .output, .sidebar-scroll, .toc-scroll");
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const scrolls = target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight;
      if (scrolls) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  boxes.forEach((box) => watch.observe(box));
})();
