import { render } from "preact";
import { afterEach, expect, test } from "vitest";

import { useAddressView } from "../src/hooks";
import { navigate } from "../src/host";

interface View {
  text: string;
  sort: string;
}

const parse = (search: string): View => {
  const query = new URLSearchParams(search);
  return { text: query.get("q") ?? "", sort: query.get("sort") ?? "" };
};

/* What is not the view's own stays in the address. */
const format = ({ text, sort }: View, search: string): URLSearchParams => {
  const query = new URLSearchParams(search);
  query.set("q", text);
  query.set("sort", sort);
  return query;
};

let shown: View;
let change: (part: Partial<View>) => void;

function Page() {
  [shown, change] = useAddressView((pathname) => pathname === "/mine", parse, format);
  return null;
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 50));

afterEach(() => {
  render(null, document.body);
});

test("a view is read from the address, kept in it, and follows it where it is the page's own", async () => {
  history.replaceState(null, "", "/mine?q=orders&other=1#part");
  render(<Page />, document.body);
  expect(shown).toEqual({ text: "orders", sort: "" });
  const entries = history.length;
  await settled();
  change({ sort: "name" });
  await settled();
  expect(shown).toEqual({ text: "orders", sort: "name" });
  expect(`${location.search}${location.hash}`).toBe("?q=orders&other=1&sort=name#part");
  expect(history.length).toBe(entries);
  navigate(new URL("/mine?q=back", location.href).href);
  await settled();
  expect(shown).toEqual({ text: "back", sort: "" });
  navigate(new URL("/another?q=else", location.href).href);
  await settled();
  expect(shown).toEqual({ text: "back", sort: "" });
});
