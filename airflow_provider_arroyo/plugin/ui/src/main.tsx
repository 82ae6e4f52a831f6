/* The adapter that Airflow's React mounts. It mounts our own app in a shadow root, independent of the host. */

import { render } from "preact";
import type { ComponentType } from "preact";
import uplotStyle from "uplot/dist/uPlot.min.css?inline";

import { App } from "./App";
import { TaskTab } from "./TaskTab";
import { Boundary } from "./components/Boundary";
import { isFocusFree } from "./hooks";
import { announceShown } from "./host";
import type { HostProps, HostReact } from "./host";
import pageStyle from "./page.css?inline";
import style from "./style.css?inline";

const LEFT_MS = 1000;

interface Mount {
  element: HTMLElement;
  users: number;
  /** The element that last had the focus: moving it elsewhere removes the focus. */
  focused: HTMLElement | null;
}

const mounts = new Map<string, Mount>();

function makeMount(App: ComponentType<{ host: HostProps }>, host: HostProps): Mount {
  const element = document.createElement("div");
  element.style.height = "100%";
  const shadow = element.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`${uplotStyle}\n${style}\n${pageStyle}`);
  shadow.adoptedStyleSheets = [sheet];
  const root = document.createElement("div");
  root.className = "root";
  shadow.append(root);
  render(
    <Boundary name="This page">
      <App host={host} />
    </Boundary>,
    root,
  );
  const mount: Mount = { element, users: 0, focused: null };
  shadow.addEventListener("focusin", (event) => {
    mount.focused = event.target as HTMLElement;
  });
  return mount;
}

function dispose(key: string, mount: Mount): void {
  if (mount.users > 0 || mounts.get(key) !== mount) return;
  const root = mount.element.shadowRoot?.firstElementChild;
  if (root) render(null, root);
  mounts.delete(key);
}

/** Mount the app in the host's element. It is kept for a moment after the host removes it, and then reused. */
function attach(name: string, App: ComponentType<{ host: HostProps }>, host: HostProps, place: HTMLElement): () => void {
  const key = JSON.stringify([name, host.dagId, host.runId, host.taskId, host.mapIndex]);
  const mount = mounts.get(key) ?? makeMount(App, host);
  mounts.set(key, mount);
  mount.users += 1;
  place.append(mount.element);
  if (mount.focused?.isConnected && isFocusFree()) mount.focused.focus({ preventScroll: true });
  return () => {
    mount.users -= 1;
    if (mount.element.parentNode === place) mount.element.remove();
    setTimeout(dispose, LEFT_MS, key, mount);
  };
}

function component(name: string, App: ComponentType<{ host: HostProps }>) {
  return (props: HostProps): unknown => {
    const react = (globalThis as unknown as { React: HostReact }).React;
    const place = react.useRef<HTMLElement | null>(null);
    react.useEffect(() => {
      return place.current ? attach(name, App, props, place.current) : undefined;
    }, [props.dagId, props.runId, props.taskId, props.mapIndex]);
    react.useEffect(() => {
      announceShown();
      return undefined;
    }, [location.href]);
    return react.createElement("div", { ref: place, style: { height: "100%", width: "100%", minWidth: 0 } });
  };
}

// Airflow finds a component by the name of its entry.
Object.assign(globalThis, {
  Arroyo: component("Arroyo", App),
  "Arroyo pipeline": component("Arroyo pipeline", TaskTab),
});
