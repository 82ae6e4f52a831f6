/* Formats durations, times and numbers for people. */

import { chosenTimeZone } from "./host";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Format a duration in seconds: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 3 d 4 h. */
export function duration(seconds: number): string {
  const all = Math.max(0, seconds);
  if (all < 9.95) return `${all.toFixed(1)} s`;
  if (all < MINUTE - 0.5) return `${Math.round(all)} s`;
  if (all < HOUR) return pair(Math.round(all), MINUTE, "min", 1, "s");
  if (all < DAY) return pair(all, HOUR, "h", MINUTE, "min");
  return pair(all, DAY, "d", HOUR, "h");
}

/** Format an age in its largest unit: 12 s ago, 14 min ago, 3 h ago. */
export function ago(seconds: number): string {
  const all = Math.max(0, seconds);
  for (const [size, name] of [
    [DAY, "d"],
    [HOUR, "h"],
    [MINUTE, "min"],
  ] as const) {
    if (all >= size) return `${Math.floor(all / size)} ${name} ago`;
  }
  return `${Math.floor(all)} s ago`;
}

function pair(seconds: number, big: number, bigName: string, small: number, smallName: string): string {
  const first = Math.floor(seconds / big);
  const second = Math.floor((seconds % big) / small);
  return second ? `${first} ${bigName} ${second} ${smallName}` : `${first} ${bigName}`;
}

/** Format a number with at most three digits and a unit of thousands: 950, 12.3 k, 4 M. */
export function count(value: number): string {
  const units = ["", " k", " M", " G", " T"];
  let size = Math.abs(value);
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  const digits = size >= 99.5 || Number.isInteger(size) ? 0 : size >= 9.95 ? 1 : 2;
  const text = size.toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return `${value < 0 ? "−" : ""}${text}${units[unit] ?? ""}`;
}

/** Format a size: 950 B, 12.3 kB, 4 MB. */
export function bytes(value: number): string {
  const text = count(value);
  return /[a-zA-Z]$/.test(text) ? `${text}B` : `${text} B`;
}

export function percent(share: number): string {
  return share > 0 && share < 0.01 ? "<1 %" : `${Math.round(share * 100)} %`;
}

type Style = "moment" | "time" | "time to the second";

const STYLES: Record<Style, Intl.DateTimeFormatOptions> = {
  moment: { dateStyle: "medium", timeStyle: "medium" },
  time: { timeStyle: "short" },
  "time to the second": { timeStyle: "medium" },
};

const formats = new Map<string, Intl.DateTimeFormat>();

/** Return a format in the reader's locale, and in the time zone of Airflow's other pages. */
function formatOf(style: Style): Intl.DateTimeFormat {
  const zone = chosenTimeZone();
  const key = `${style} ${zone ?? ""}`;
  let format = formats.get(key);
  if (format === undefined) {
    try {
      format = new Intl.DateTimeFormat(undefined, { ...STYLES[style], timeZone: JSON.parse(zone ?? "") as string });
    } catch {
      format = new Intl.DateTimeFormat(undefined, STYLES[style]);
    }
    formats.set(key, format);
  }
  return format;
}

/** Return whether a date can hold a time: a server or an XCom may have any number. */
export function isTime(seconds: number): boolean {
  return !Number.isNaN(new Date(seconds * 1000).getTime());
}

/** Format a time to the second. */
export function moment(seconds: number): string {
  return isTime(seconds) ? formatOf("moment").format(seconds * 1000) : "";
}

export function isoTime(seconds: number): string {
  return isTime(seconds) ? new Date(seconds * 1000).toISOString() : "";
}

export function timeOfDay(seconds: number, isToTheSecond = false): string {
  return isTime(seconds) ? formatOf(isToTheSecond ? "time to the second" : "time").format(seconds * 1000) : "";
}

/** Format a value; a dash if there is none. */
export function orDash(value: number | null | undefined, format: (value: number) => string): string {
  return value == null ? "–" : format(value);
}
