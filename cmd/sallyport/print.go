package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// printJSON prints a value for programs, and for people who look at what programs get.
func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(inertJSON{out})
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printTable prints rows for people. Every cell is made inert here, so no caller can forget it.
func printTable(out io.Writer, head []string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, text := range row {
			cells[i] = cell(text)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// moment prints a time to the second, in the reader's zone.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// ago prints the time since then, coarsely.
func ago(t, now time.Time) string {
	switch since := now.Sub(t); {
	case t.IsZero():
		return ""
	case since < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(since.Seconds())))
	case since < time.Hour:
		return fmt.Sprintf("%dm", int(since.Minutes()))
	case since < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(since.Hours()), int(since.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(since.Hours())/24)
	}
}

// say tells people how it went. In a pipe the exit code says it.
func (in *invocation) say(format string, args ...any) {
	if f, ok := in.out.(*os.File); ok && isTerminal(f) {
		fmt.Fprintln(in.out, inert(fmt.Sprintf(format, args...)))
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
