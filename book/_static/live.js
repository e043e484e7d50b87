// Runs the nets of aelib.book.live in the page. interactive.js loads this file where a page has such a figure.
(() => {
  "use strict";
  const { element, control, scatter, kinds } = window.aelibFigures;
  const FINE = 4; // as live.FINE: so many squares each way are drawn for one pixel of the picture
  const PEN = 1.05; // the pen's radius in pixels of the picture; MNIST's strokes are two to three pixels wide

  // ---- Numbers ----

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  const floats = (text) => new Float32Array(bytes(text).buffer);

  // Weights of 8 bits with a gain for each row and a scale for each output channel, the last axis.
  function weights({ values, gain, scale }) {
    const [whole, gains, scales] = [new Int8Array(bytes(values).buffer), floats(gain), floats(scale)];
    const n = scales.length;
    return Float32Array.from(whole, (value, i) => value * gains[Math.floor(i / n)] * scales[i % n]);
  }

  function erf(x) {
    // Abramowitz and Stegun, 7.1.26: right to 1.5e-7.
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - series * Math.exp(-x * x));
  }

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const functions = {
    linear: (x) => x,
    relu: (x) => Math.max(x, 0),
    sigmoid,
    tanh: Math.tanh,
    silu: (x) => x * sigmoid(x),
    gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
    leaky_relu: (x, slope) => (x < 0 ? slope * x : x),
    elu: (x, alpha) => (x < 0 ? alpha * Math.expm1(x) : x),
    softplus,
  };

  function activate(values, [name, parameter]) {
    if (name === "linear") return values;
    const apply = functions[name];
    for (let i = 0; i < values.length; i += 1) values[i] = apply(values[i], parameter);
    return values;
  }

  // ---- Layers. Each takes a description and the shape of its input, and returns the shape of its output
  // and a function from one Float32Array to another. Pictures are stored row by row, channels last. ----

  // out[at + j] += sum over i of x[from + i] * matrix[start + i * outputs + j]
  function multiply(x, from, inputs, matrix, start, out, at, outputs) {
    for (let i = 0; i < inputs; i += 1) {
      const value = x[from + i];
      if (value === 0) continue; // half of a ReLU's outputs, and most of a digit's pixels
      const row = start + i * outputs;
      for (let j = 0; j < outputs; j += 1) out[at + j] += value * matrix[row + j];
    }
  }

  function withBias(bias, size) {
    const out = new Float32Array(size);
    for (let at = 0; at < size; at += bias.length) out.set(bias, at);
    return out;
  }

  const size = (shape) => shape.reduce((product, n) => product * n, 1);

  const layers = {
    dense(layer, shape) {
      const [matrix, bias, inputs] = [weights(layer), floats(layer.bias), shape.at(-1)];
      const places = size(shape) / inputs;
      const run = (x) => {
        const out = withBias(bias, places * bias.length);
        for (let p = 0; p < places; p += 1) {
          multiply(x, p * inputs, inputs, matrix, 0, out, p * bias.length, bias.length);
        }
        return activate(out, layer.activation);
      };
      return { shape: [...shape.slice(0, -1), bias.length], run };
    },

    convolution(layer, [height, width, inputs]) {
      const [kernel, bias] = [weights(layer), floats(layer.bias)];
      const [rows, columns, outputs] = layer.shape;
      const [[down, across], [sr, sc], [top, left]] = [layer.kernel, layer.strides, layer.before];
      const run = (x) => {
        const out = withBias(bias, rows * columns * outputs);
        for (let r = 0; r < rows; r += 1) {
          for (let c = 0; c < columns; c += 1) {
            for (let a = 0; a < down; a += 1) {
              const y = r * sr + a - top;
              if (y < 0 || y >= height) continue;
              for (let b = 0; b < across; b += 1) {
                const z = c * sc + b - left;
                if (z < 0 || z >= width) continue;
                const tap = (a * across + b) * inputs * outputs;
                const place = (r * columns + c) * outputs;
                multiply(x, (y * width + z) * inputs, inputs, kernel, tap, out, place, outputs);
              }
            }
          }
        }
        return activate(out, layer.activation);
      };
      return { shape: layer.shape, run };
    },

    // Each pixel of the input adds its multiple of the kernel to the output.
    transposed(layer, [height, width, inputs]) {
      const [kernel, bias] = [weights(layer), floats(layer.bias)];
      const [rows, columns, outputs] = layer.shape;
      const [[down, across], [sr, sc], [top, left]] = [layer.kernel, layer.strides, layer.before];
      const run = (x) => {
        const out = withBias(bias, rows * columns * outputs);
        for (let y = 0; y < height; y += 1) {
          for (let z = 0; z < width; z += 1) {
            for (let a = 0; a < down; a += 1) {
              const r = y * sr + a - top;
              if (r < 0 || r >= rows) continue;
              for (let b = 0; b < across; b += 1) {
                const c = z * sc + b - left;
                if (c < 0 || c >= columns) continue;
                const tap = (a * across + b) * inputs * outputs;
                const place = (r * columns + c) * outputs;
                multiply(x, (y * width + z) * inputs, inputs, kernel, tap, out, place, outputs);
              }
            }
          }
        }
        return activate(out, layer.activation);
      };
      return { shape: layer.shape, run };
    },

    max(layer, [height, width, channels]) {
      const [rows, columns] = layer.shape;
      const [[down, across], [sr, sc], [top, left]] = [layer.pool, layer.strides, layer.before];
      const run = (x) => {
        const out = new Float32Array(rows * columns * channels).fill(-Infinity);
        for (let r = 0; r < rows; r += 1) {
          for (let c = 0; c < columns; c += 1) {
            const at = (r * columns + c) * channels;
            for (let y = Math.max(0, r * sr - top); y < Math.min(height, r * sr - top + down); y += 1) {
              for (let z = Math.max(0, c * sc - left); z < Math.min(width, c * sc - left + across); z += 1) {
                const from = (y * width + z) * channels;
                for (let k = 0; k < channels; k += 1) out[at + k] = Math.max(out[at + k], x[from + k]);
              }
            }
          }
        }
        return out;
      };
      return { shape: layer.shape, run };
    },

    // The picture read at other places: for repeat and crop.
    read(shape, [, width, channels], row, column) {
      const [rows, columns] = shape;
      const run = (x) => {
        const out = new Float32Array(rows * columns * channels);
        for (let r = 0; r < rows; r += 1) {
          for (let c = 0; c < columns; c += 1) {
            const from = (row(r) * width + column(c)) * channels;
            out.set(x.subarray(from, from + channels), (r * columns + c) * channels);
          }
        }
        return out;
      };
      return { shape, run };
    },

    repeat({ shape, factor }, given) {
      return layers.read(shape, given, (r) => Math.floor(r / factor[0]), (c) => Math.floor(c / factor[1]));
    },

    crop({ shape, before }, given) {
      return layers.read(shape, given, (r) => r + before[0], (c) => c + before[1]);
    },

    average(layer, [height, width, channels]) {
      const run = (x) => {
        const out = new Float32Array(channels);
        for (let i = 0; i < x.length; i += 1) out[i % channels] += x[i] / (height * width);
        return out;
      };
      return { shape: layer.shape, run };
    },

    affine(layer, shape) {
      const [factor, shift] = [floats(layer.factor), floats(layer.shift)];
      const run = (x) => x.map((value, i) => value * factor[i % factor.length] + shift[i % factor.length]);
      return { shape, run };
    },

    activation: (layer, shape) => ({ shape, run: (x) => activate(x.slice(), layer.activation) }),
    reshape: (layer) => ({ shape: layer.shape, run: (x) => x }),
  };

  // A net as a function of one Float32Array.
  function net({ shape, layers: described }) {
    const steps = [];
    for (const layer of described) {
      const step = layers[layer.kind](layer, shape);
      shape = step.shape;
      steps.push(step.run);
    }
    return (x) => steps.reduce((value, run) => run(value), x);
  }

  // ---- Pictures and pages ----

  // A canvas for grey pictures, white on black, with a name and a line of text below.
  function picture([height, width], name, className = "ae-picture") {
    const canvas = element("canvas", { height, width, role: "img", "aria-label": name });
    const pen = canvas.getContext("2d");
    const pixels = pen.createImageData(width, height);
    const note = element("span", { class: "ae-note", "aria-hidden": "true" });
    const title = element("span", { class: "ae-name", "aria-hidden": "true" }, name);
    const draw = (values, text = "") => {
      for (let i = 0; i < width * height; i += 1) {
        const grey = Math.round(255 * Math.min(1, Math.max(0, values[i])));
        pixels.data.set([grey, grey, grey, 255], 4 * i);
      }
      pen.putImageData(pixels, 0, 0);
      note.textContent = text;
      canvas.setAttribute("aria-label", text ? `${name}, ${text}` : name);
    };
    return { node: element("div", { class: className }, title, canvas, note), canvas, draw };
  }

  function button(text, click, label) {
    const node = element("button", { type: "button" }, text);
    if (label) node.setAttribute("aria-label", label);
    node.addEventListener("click", click);
    return node;
  }

  const short = (value) => (value < 0 ? "−" : "") + Math.abs(value).toPrecision(3).replace(/e-(\d+)/, "·10⁻$1");
  const fixed = (value) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

  function meanSquare(a, b) {
    let sum = 0;
    for (let i = 0; i < a.length; i += 1) sum += (a[i] - b[i]) ** 2;
    return sum / a.length;
  }

  // At most one call of `work` a frame, however many events ask for it.
  function perFrame(work) {
    let asked = false;
    return () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        work();
      });
    };
  }

  // What is shown, for those who hear the page: said when nothing has changed for a while.
  function speaker() {
    const node = element("p", { class: "ae-spoken", "aria-live": "polite" });
    let timer = 0;
    const say = (text) => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        node.textContent = text;
      }, 800);
    };
    return { node, say };
  }

  function samplesOf(data) {
    const [all, pixels] = [bytes(data.samples), size(data.size)];
    return data.names.map((name, i) => ({
      name: name ? `sample ${i + 1}: ${name}` : `sample ${i + 1}`,
      values: Float32Array.from(all.subarray(i * pixels, (i + 1) * pixels), (value) => value / 255),
    }));
  }

  // Buttons with small pictures of the samples.
  function chooser(samples, shape, choose) {
    const nodes = samples.map(({ name, values }) => {
      const small = picture(shape, name);
      small.draw(values);
      small.canvas.setAttribute("aria-hidden", "true");
      return button(small.canvas, () => choose(values, name), `load ${name}`);
    });
    return element("div", { class: "ae-samples", role: "group", "aria-label": "samples" }, ...nodes);
  }

  // ---- The drawing pad ----

  // As live.centered: the drawing at the size of the net's pictures, each pixel the mean of 4 x 4 places.
  function placementOf(ink, [height, width], [rows, columns], center) {
    let [total, down, across] = [0, 0, 0];
    let [top, bottom, left, right] = [height, -1, width, -1];
    for (let r = 0; center && r < height; r += 1) {
      for (let c = 0; c < width; c += 1) {
        const value = ink[r * width + c];
        if (value === 0) continue;
        total += value;
        down += value * (r + 0.5);
        across += value * (c + 0.5);
        [top, bottom] = [Math.min(top, r), Math.max(bottom, r)];
        [left, right] = [Math.min(left, c), Math.max(right, c)];
      }
    }
    if (!total) return { scale: Math.min(rows / height, columns / width), middle: [height / 2, width / 2] };
    const longer = Math.max(bottom - top, right - left) + 1;
    return { scale: (Math.min(rows, columns) * 5) / 7 / longer, middle: [down / total, across / total] };
  }

  function placed(ink, [height, width], [rows, columns], { scale, middle }) {
    const places = (n, center) =>
      Array.from({ length: n * FINE }, (_, i) => Math.floor(center + ((i + 0.5) / FINE - n / 2) / scale));
    const [ys, xs] = [places(rows, middle[0]), places(columns, middle[1])];
    const out = new Float32Array(rows * columns);
    ys.forEach((y, i) => {
      if (y < 0 || y >= height) return;
      xs.forEach((x, j) => {
        if (x < 0 || x >= width) return;
        out[Math.floor(i / FINE) * columns + Math.floor(j / FINE)] += ink[y * width + x] / FINE ** 2;
      });
    });
    return out;
  }

  // A pad for mouse, finger and keys; changed(values) is called, once a frame, with the net's input.
  function pad(data, changed) {
    const shape = data.size.map((n) => n * FINE);
    const [height, width] = shape;
    const ink = new Float32Array(height * width);
    const view = picture(shape, "drawing pad", "ae-pad");
    const cursor = element("div", { class: "ae-cursor", hidden: "" });
    const place = { row: data.size[0] / 2, column: data.size[1] / 2 };
    let placement = placementOf(ink, shape, data.size, false);
    const { canvas } = view;
    const frame = element("div", { class: "ae-paper" }, cursor);
    canvas.replaceWith(frame);
    frame.prepend(canvas);
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", "drawing pad");
    const refresh = perFrame(() => {
      view.draw(ink);
      canvas.setAttribute("aria-label", "drawing pad");
      changed(placed(ink, shape, data.size, placement));
    });

    // A line with round ends between two points, in squares of the pad.
    function line([x0, y0], [x1, y1]) {
      const radius = PEN * FINE;
      const [dx, dy] = [x1 - x0, y1 - y0];
      const squared = dx * dx + dy * dy;
      const [low, high] = [(a, b) => Math.floor(Math.min(a, b) - radius - 1), (a, b) => Math.ceil(Math.max(a, b) + radius + 1)];
      for (let r = Math.max(0, low(y0, y1)); r < Math.min(height, high(y0, y1)); r += 1) {
        for (let c = Math.max(0, low(x0, x1)); c < Math.min(width, high(x0, x1)); c += 1) {
          const [px, py] = [c + 0.5 - x0, r + 0.5 - y0];
          const along = squared ? Math.min(1, Math.max(0, (px * dx + py * dy) / squared)) : 0;
          const distance = Math.hypot(px - along * dx, py - along * dy);
          const value = Math.min(1, Math.max(0, radius + 0.5 - distance));
          ink[r * width + c] = Math.max(ink[r * width + c], value);
        }
      }
    }

    function strokeEnds() {
      placement = placementOf(ink, shape, data.size, data.center);
      refresh();
    }

    const pointOf = (event) => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
    };
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      last = pointOf(event);
      line(last, last);
      refresh();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) {
        const next = pointOf(each);
        line(last, next);
        last = next;
      }
      refresh();
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => {
        if (last) strokeEnds();
        last = null;
      });
    }

    const spot = () => [(place.column + 0.5) * FINE, (place.row + 0.5) * FINE];
    const showCursor = () => {
      cursor.hidden = document.activeElement !== canvas || !canvas.matches(":focus-visible");
      cursor.style.left = `${(100 * place.column) / data.size[1]}%`;
      cursor.style.top = `${(100 * place.row) / data.size[0]}%`;
      cursor.style.width = `${100 / data.size[1]}%`;
      cursor.style.height = `${100 / data.size[0]}%`;
    };
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (step) {
        const before = spot();
        place.row = Math.min(data.size[0] - 1, Math.max(0, place.row + step[0]));
        place.column = Math.min(data.size[1] - 1, Math.max(0, place.column + step[1]));
        if (event.shiftKey) {
          line(before, spot());
          refresh();
        }
      } else if (event.key === " ") {
        line(spot(), spot());
        strokeEnds();
      } else if (event.key === "Delete" || event.key === "Backspace") {
        clear();
      } else {
        return;
      }
      event.preventDefault();
      showCursor();
    });
    canvas.addEventListener("keyup", (event) => {
      if (event.key === "Shift") strokeEnds();
    });
    canvas.addEventListener("focus", showCursor);
    canvas.addEventListener("blur", showCursor);

    function clear() {
      ink.fill(0);
      strokeEnds();
    }

    // A sample fills the pad and reaches the net as it is.
    function load(values) {
      for (let r = 0; r < height; r += 1) {
        for (let c = 0; c < width; c += 1) {
          ink[r * width + c] = values[Math.floor(r / FINE) * data.size[1] + Math.floor(c / FINE)];
        }
      }
      placement = placementOf(ink, shape, data.size, false);
      refresh();
    }

    const keys = "Keys: arrows move, space paints, Shift and an arrow draw a line, Delete clears.";
    const help = element("p", { class: "ae-help", id: `ae-help-${(pad.count = (pad.count ?? 0) + 1)}` }, keys);
    canvas.setAttribute("aria-describedby", help.id);
    view.node.append(button("Clear", clear, "clear the pad"), help);
    return { node: view.node, load, ink, shape };
  }

  // ---- The four kinds of figures. Each returns its nodes and, for tests and the console, what it computed. ----

  // A narrow range input for one number of the code.
  function latent(name, [low, high], moved) {
    const id = `ae-latent-${(latent.count = (latent.count ?? 0) + 1)}`;
    const value = element("span", { class: "ae-value", "aria-hidden": "true" });
    const input = element("input", { type: "range", id, min: 0, max: 200, autocomplete: "off" });
    const show = (number) => {
      input.value = Math.round((200 * (number - low)) / (high - low));
      value.textContent = fixed(number);
      input.setAttribute("aria-valuetext", fixed(number));
    };
    input.addEventListener("input", () => {
      const number = low + ((high - low) * input.valueAsNumber) / 200;
      value.textContent = fixed(number);
      input.setAttribute("aria-valuetext", fixed(number));
      moved(number);
    });
    return { node: element("div", { class: "ae-latent" }, element("label", { for: id }, name), input, value), show };
  }

  // Bars up and down from a middle line, one for each number of a long code.
  function bars(ranges) {
    const canvas = element("canvas", { width: 640, height: 120, role: "img", class: "ae-bars" });
    const most = Math.max(...ranges.flat().map(Math.abs));
    const draw = (code) => {
      const [pen, step] = [canvas.getContext("2d"), canvas.width / code.length];
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.fillStyle = getComputedStyle(canvas).color;
      pen.fillRect(0, 59.5, canvas.width, 1);
      code.forEach((value, i) => {
        const length = (58 * Math.min(most, Math.max(-most, value))) / most;
        pen.fillRect((i + 0.15) * step, 60 - Math.max(0, length), 0.7 * step, Math.abs(length));
      });
      canvas.setAttribute("aria-label", `the code, ${code.length} numbers from ${fixed(Math.min(...code))} to ${fixed(Math.max(...code))}`);
    };
    return { node: canvas, draw };
  }

  function pcaOf(packed) {
    const [mean, matrix] = [floats(packed.mean), weights(packed)];
    const components = matrix.length / mean.length;
    return (x) => {
      const scores = new Float32Array(components);
      x.forEach((value, i) => {
        for (let k = 0; k < components; k += 1) scores[k] += (value - mean[i]) * matrix[i * components + k];
      });
      return mean.map((value, i) => {
        for (let k = 0; k < components; k += 1) value += scores[k] * matrix[i * components + k];
        return value;
      });
    };
  }

  // The known pictures whose codes are nearest to a code.
  function neighborhood(packed, count = 5) {
    const codes = weights(packed);
    const [width, [h, w]] = [codes.length / packed.names.length, packed.size];
    const src = `data:image/png;base64,${packed.sheet}`;
    const tiles = Array.from({ length: Math.min(count, packed.names.length) }, () => {
      const image = element("img", { class: "ae-sheet", src, alt: "" });
      image.style.width = `${100 * packed.columns}%`;
      const frame = element("div", { class: "ae-frame", role: "img" }, image);
      frame.style.aspectRatio = `${w + 1} / ${h + 1}`;
      const note = element("span", { class: "ae-note", "aria-hidden": "true" });
      return { image, frame, note, node: element("div", { class: "ae-picture" }, frame, note) };
    });
    const title = element("div", { class: "ae-name" }, "Nearest known pictures, by their codes");
    const node = element("div", { class: "ae-neighbors" }, title, element("div", { class: "ae-row" }, ...tiles.map((tile) => tile.node)));
    const show = (code) => {
      const distances = packed.names.map((_, i) => [meanSquare(code, codes.subarray(i * width, (i + 1) * width)), i]);
      const nearest = distances.sort((a, b) => a[0] - b[0]).slice(0, count).map(([, i]) => i);
      tiles.forEach((tile, t) => {
        const i = nearest[t];
        tile.image.style.top = `${-100 * Math.floor(i / packed.columns)}%`;
        tile.image.style.left = `${-100 * (i % packed.columns)}%`;
        tile.note.textContent = packed.names[i];
        tile.frame.setAttribute("aria-label", `near picture ${t + 1}${packed.names[i] && `: ${packed.names[i]}`}`);
      });
      return nearest;
    };
    return { node, show };
  }

  kinds["live-draw"] = (data) => {
    const [encode, decode] = [net(data.encoder), net(data.decoder)];
    const [pca, near] = [data.pca && pcaOf(data.pca), data.neighbors && neighborhood(data.neighbors)];
    const state = {};
    const voice = speaker();
    const shown = picture(data.size, "what the net reads");
    const rebuilt = picture(data.size, "the net's reconstruction");
    const projected = pca && picture(data.size, "PCA's reconstruction");
    const chart = data.folded ? bars(data.ranges) : null;
    const decoded = perFrame(() => {
      const start = performance.now();
      state.output = decode(state.code);
      const error = meanSquare(state.input, state.output);
      rebuilt.draw(state.output, `error ${short(error)}`);
      let text = `Squared error per pixel: the net ${short(error)}`;
      if (pca) {
        state.pca = pca(state.input);
        const rival = meanSquare(state.input, state.pca);
        projected.draw(state.pca, `error ${short(rival)}`);
        text += `, PCA ${short(rival)}`;
      }
      if (near) {
        state.nearest = near.show(state.code);
        const names = state.nearest.map((i) => data.neighbors.names[i]).filter(Boolean);
        if (names.length) text += `. Nearest known pictures: ${names.join(", ")}`;
      }
      if (chart) chart.draw(state.code);
      reset.setAttribute("aria-disabled", !state.moved);
      voice.say(`${text}.`);
      state.milliseconds = performance.now() - start + (state.encoding ?? 0);
    });
    const sliders = data.latents.map((name, k) =>
      latent(name, data.ranges[k], (value) => {
        state.code[k] = value;
        state.moved = true;
        decoded();
      }),
    );
    const encoded = () => {
      const start = performance.now();
      state.code = encode(state.input);
      state.encoding = performance.now() - start;
      state.moved = false;
      state.code.forEach((value, k) => sliders[k].show(value));
      decoded();
    };
    const paper = pad(data, (values) => {
      state.input = values;
      shown.draw(values);
      encoded();
    });
    const reset = button("Code of the drawing", () => state.moved && encoded(), "back to the code of the drawing");
    const samples = samplesOf(data);
    const right = element("div", { class: "ae-row" }, shown.node, rebuilt.node, ...(pca ? [projected.node] : []));
    const grid = element("div", { class: "ae-latents" }, ...sliders.map((slider) => slider.node));
    const title = element("div", { class: "ae-name" }, `The code, ${sliders.length} numbers: move them`);
    const head = element("div", { class: "ae-head ae-spread" }, title, reset);
    const code = chart
      ? [chart.node, element("details", {}, element("summary", {}, `Move the ${sliders.length} numbers`), head, grid)]
      : [head, grid];
    const beside = element("div", { class: "ae-beside" }, right, ...(near ? [near.node] : []));
    paper.load(samples[0].values);
    return {
      nodes: [
        chooser(samples, data.size, paper.load),
        element("div", { class: "ae-desk" }, paper.node, beside),
        ...code,
        voice.node,
      ],
      state,
    };
  };

  kinds["live-walk"] = (data) => {
    const decode = net(data.decoder);
    const state = { code: new Float32Array(2) };
    const voice = speaker();
    const shown = picture(data.size, "decoded picture");
    const marker = element("div", { class: "ae-point" });
    const map = element("div", { class: "ae-map", tabindex: 0, role: "application" }, scatter(data.points), marker);
    map.setAttribute("aria-label", `map of the codes, ${data.axes[0]} across and ${data.axes[1]} upwards; arrow keys move the point`);
    const STEPS = 200;
    const texts = data.ranges.map(([low, high]) =>
      Array.from({ length: STEPS + 1 }, (_, i) => fixed(low + ((high - low) * i) / STEPS)),
    );
    const text = element("p", { class: "ae-text", "aria-hidden": "true" });
    const decoded = perFrame(() => {
      const start = performance.now();
      const at = [across.input.valueAsNumber / STEPS, up.input.valueAsNumber / STEPS];
      data.ranges.forEach(([low, high], k) => {
        state.code[k] = low + (high - low) * at[k];
      });
      state.output = decode(state.code);
      const place = `${data.axes[0]} ${fixed(state.code[0])}, ${data.axes[1]} ${fixed(state.code[1])}`;
      shown.draw(state.output);
      shown.canvas.setAttribute("aria-label", `picture decoded at ${place}`);
      marker.style.left = `${100 * at[0]}%`;
      marker.style.top = `${100 - 100 * at[1]}%`;
      const distance = ([x, y]) => (x / 1000 - at[0]) ** 2 + (1 - y / 1000 - at[1]) ** 2;
      const nearest = data.points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
      state.nearest = nearest[2];
      text.textContent = `${place}${nearest[2] && `; the nearest known code belongs to ${nearest[2]}`}.`;
      voice.say(text.textContent);
      state.milliseconds = performance.now() - start;
    });
    const across = control(data.axes[0], texts[0], STEPS / 2, decoded);
    const up = control(data.axes[1], texts[1], STEPS / 2, decoded);
    const point = (event) => {
      if (event.pointerType !== "mouse" && event.type === "pointermove" && !event.buttons) return;
      const box = map.getBoundingClientRect();
      across.go(Math.round(((event.clientX - box.left) / box.width) * STEPS));
      up.go(Math.round(((box.bottom - event.clientY) / box.height) * STEPS));
    };
    map.addEventListener("pointerdown", point);
    map.addEventListener("pointermove", point);
    map.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 2;
      const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
      if (!x && !y) return;
      event.preventDefault();
      if (x) across.go(across.input.valueAsNumber + x * step);
      if (y) up.go(up.input.valueAsNumber + y * step);
    });
    across.start();
    up.start();
    return {
      nodes: [element("div", { class: "ae-pair" }, map, shown.node), text, across.node, up.node, voice.node],
      state,
    };
  };

  // Numbers from 0 to 1 that a seed repeats (mulberry32).
  function randomFrom(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  kinds["live-corrupt"] = (data) => {
    const run = net(data.net);
    const samples = samplesOf(data);
    const state = { clean: samples[0].values, seed: 1 };
    const voice = speaker();
    const original = picture(data.size, "original");
    const noisy = picture(data.size, "corrupted");
    const answer = picture(data.size, "the net's answer");
    const STEPS = 100;
    const gaussian = data.corruption === "gaussian";
    // Drawn once and scaled, so that the level changes and the noise does not.
    const draw = () => {
      const random = randomFrom(state.seed);
      const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
      state.noise = Float32Array.from({ length: size(data.size) }, gaussian ? normal : random);
    };
    const refresh = perFrame(() => {
      const start = performance.now();
      const level = (data.most * range.input.valueAsNumber) / STEPS;
      state.level = level;
      state.input = state.clean.map((value, i) => {
        if (!gaussian) return state.noise[i] < level ? 0 : value;
        return Math.min(1, Math.max(0, value + level * state.noise[i]));
      });
      state.output = run(state.input);
      const [before, after] = [state.input, state.output].map((image) => meanSquare(state.clean, image));
      original.draw(state.clean);
      noisy.draw(state.input, `error ${short(before)}`);
      answer.draw(state.output, `error ${short(after)}`);
      voice.say(`Squared error per pixel: before ${short(before)}, after ${short(after)}.`);
      state.milliseconds = performance.now() - start;
    });
    const texts = Array.from({ length: STEPS + 1 }, (_, i) => ((data.most * i) / STEPS).toFixed(2));
    const label = gaussian ? "noise, standard deviation" : "share of pixels set to 0";
    const range = control(label, texts, Math.round((STEPS * data.start) / data.most), refresh);
    const again = button("New noise", () => {
      state.seed += 1;
      draw();
      refresh();
    });
    const choose = (values) => {
      state.clean = values;
      refresh();
    };
    draw();
    range.start();
    const row = element("div", { class: "ae-row ae-large" }, original.node, noisy.node, answer.node);
    again.className = "ae-apart";
    return { nodes: [chooser(samples, data.size, choose), row, range.node, again, voice.node], state };
  };

  kinds["live-score"] = (data) => {
    const run = net(data.net);
    const likelihood = data.measure === "nll";
    const state = {};
    const voice = speaker();
    const shown = picture(data.size, "what the net reads");
    const rebuilt = picture(data.size, "the net's reconstruction");
    const filled = element("div", { class: "ae-filled" });
    const limit = element("div", { class: "ae-limit" });
    const bar = element("div", { class: "ae-bar", role: "img" }, filled, limit);
    const verdict = element("p", { class: "ae-text", "aria-hidden": "true" });
    const what = likelihood ? "binary cross-entropy per pixel, in nats" : "mean squared error per pixel";
    limit.style.left = `${(100 * data.threshold) / data.most}%`;
    const samples = samplesOf(data);
    const paper = pad(data, (values) => {
      const start = performance.now();
      state.input = values;
      state.raw = run(values);
      state.output = data.mean === "sigmoid" ? state.raw.map(sigmoid) : state.raw;
      let sum = 0;
      if (likelihood) state.raw.forEach((raw, i) => (sum += softplus(raw) - values[i] * raw));
      state.score = likelihood ? sum / values.length : meanSquare(values, state.output);
      const above = state.score > data.threshold;
      shown.draw(values);
      rebuilt.draw(state.output);
      filled.style.width = `${Math.min(100, (100 * state.score) / data.most)}%`;
      bar.classList.toggle("ae-above", above);
      bar.setAttribute("aria-label", `score ${short(state.score)}, threshold ${short(data.threshold)}`);
      verdict.textContent =
        `Score ${short(state.score)}, threshold ${short(data.threshold)}. ` +
        (above ? "Above the threshold: looks unlike the training data." : "Not above the threshold: looks like the training data.");
      voice.say(verdict.textContent);
      state.milliseconds = performance.now() - start;
    });
    paper.load(samples[0].values);
    const name = element("div", { class: "ae-name" }, `Anomaly score: ${what}`);
    const row = element("div", { class: "ae-row" }, shown.node, rebuilt.node);
    const beside = element("div", { class: "ae-beside" }, row, name, bar, verdict);
    return {
      nodes: [chooser(samples, data.size, paper.load), element("div", { class: "ae-desk" }, paper.node, beside), voice.node],
      state,
    };
  };
})();
