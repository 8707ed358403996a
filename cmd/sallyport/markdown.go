package main

import (
	"fmt"
	"io"
	"strings"
)

// Markdown for a pull request. What comes from policies, records or directories shows there and does nothing else: no
// links, no images, no mentions that notify people.

// markdownMarks are what GitHub and GitLab read as more than text, and how they show it as text.
var markdownMarks = func() *strings.Replacer {
	pairs := []string{"&", "&amp;", "<", "&lt;", ">", "&gt;", "@", "&#64;", ":", "&#58;", "/", "&#47;", "~", "&#126;", "$", "&#36;", "www.", "www&#46;"}
	for _, mark := range "\\`*_{}[]()#+-!|" {
		pairs = append(pairs, string(mark), `\`+string(mark))
	}
	return strings.NewReplacer(pairs...)
}()

// markdownText is text and nothing else.
func markdownText(text string) string { return markdownMarks.Replace(inert(text)) }

// markdownTable prints rows for people who read a pull request.
func markdownTable(out io.Writer, head []string, rows [][]string) {
	fmt.Fprintf(out, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat(" --- |", len(head)))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, text := range row {
			cells[i] = markdownText(cell(text))
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
	fmt.Fprintln(out)
}
