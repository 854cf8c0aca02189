// The playground in a notebook, for anywidget: the page in a frame, its requests answered by the kernel.

/** A function that asks the kernel: (path, body) -> a promise of the answer. */
function connect(model) {
  const frame = Math.random(); // a widget can be shown twice; crypto.randomUUID needs HTTPS
  const waiting = new Map();
  let count = 0;
  model.on("msg:custom", ({ id, answer, error }) => {
    const promise = waiting.get(id);
    if (!promise) return; // of another frame
    waiting.delete(id);
    if (error === undefined) promise.resolve(answer);
    else promise.reject(new Error(error));
  });
  return (path, body) =>
    new Promise((resolve, reject) => {
      const id = `${frame} ${++count}`;
      waiting.set(id, { resolve, reject });
      model.send({ id, path, body });
    });
}

function render({ model, el }) {
  const frame = document.createElement("iframe");
  frame.title = "Playground";
  frame.style.cssText = `width: 100%; height: ${model.get("height")}px; border: 0`;
  frame.srcdoc = model.get("page");
  const start = () => {
    frame.contentWindow.ASK = connect(model);
    frame.contentWindow.OPENING = model.get("opening");
    const script = frame.contentDocument.createElement("script");
    script.textContent = model.get("script");
    frame.contentDocument.body.append(script);
  };
  frame.addEventListener("load", start, { once: true });
  el.append(frame);
}

export default { render };
