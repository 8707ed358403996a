package verify

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// Print writes the report for people: the verdict with its gravest reason first. What comes from the files is printed so
// that it cannot do anything to a terminal.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Headline())
	for _, l := range r.Logs {
		l.print(&b)
	}
	r.Bundle.print(&b)
	for i := range r.Findings {
		r.Findings[i].print(&b)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "and %d more findings of these kinds\n", r.Omitted)
	}
	fmt.Fprintf(&b, "%d records", r.Records)
	if r.Rederived > 0 {
		fmt.Fprintf(&b, ", %d decisions decided again", r.Rederived)
	}
	fmt.Fprintf(&b, ", %d policy archives, %.1f MB in %v (%.0f records/s)\n", r.Policies, float64(r.Bytes)/1e6, r.Elapsed.Round(time.Millisecond), r.PerSecond)
	_, err := io.WriteString(w, printable(b.String()))
	return err
}

// Headline is the verdict and its gravest reason in one line.
func (r *Report) Headline() string {
	switch r.Result {
	case Pass:
		return "PASS: every record follows from signed checkpoints, and none is missing"
	case Gaps:
		return fmt.Sprintf("PASS WITH GAPS: nothing contradicts what was signed; %d gaps are stated below", len(r.Gaps)+r.gapsBeside())
	}
	for i := range r.Findings {
		if r.Findings[i].Severity == r.Result {
			return r.Result.String() + ": " + r.Findings[i].Text
		}
	}
	return r.Result.String()
}

// gapsBeside counts the gaps that are findings only.
func (r *Report) gapsBeside() (n int) {
	for i := range r.Findings {
		if r.Findings[i].Severity == Gaps {
			n++
		}
	}
	return max(0, n-len(r.Gaps))
}

func (l *LogReport) print(b *strings.Builder) {
	fmt.Fprintf(b, "%s log: records %d to %d", l.Log, l.First, l.Size)
	if l.Size == l.First {
		fmt.Fprintf(b, " (none)")
	}
	if l.Segments > 0 {
		fmt.Fprintf(b, ", %d segments, %d runs", l.Segments, l.Boots)
	}
	if !l.From.IsZero() {
		fmt.Fprintf(b, ", %s to %s", l.From.Format(time.RFC3339), l.To.Format(time.RFC3339))
	}
	fmt.Fprintf(b, "\n  signed: %d records by %d checkpoints (%d receipts, %d of the other log's heartbeats)", l.Signed, l.Checkpoints, l.Receipts, l.Anchors)
	if l.Newest != nil {
		fmt.Fprintf(b, "\n  newest: %s %d %s, from %s", l.Newest.Origin, l.Newest.Size, l.Newest.Root, l.Newest.From)
	}
	b.WriteByte('\n')
}

func (m *BundleReport) print(b *strings.Builder) {
	if m == nil {
		return
	}
	fmt.Fprintf(b, "evidence bundle of %s for %q, signed by %q\n", m.Created.Format(time.RFC3339), m.Who, m.SignedBy)
	if m.Query != "" {
		fmt.Fprintf(b, "  query: %s\n", m.Query)
	}
	fmt.Fprintf(b, "  %d records match, %d are withheld\n", m.Matching, m.Withheld)
}

func (f *Finding) print(b *strings.Builder) {
	kind := map[Result]string{Pass: "note", Gaps: "gap"}[f.Severity]
	if kind == "" {
		kind = strings.ToLower(f.Severity.String())
	}
	fmt.Fprintf(b, "%s (%s): %s", kind, f.Class, f.Text)
	if f.File != "" && !strings.Contains(f.Text, f.File) {
		fmt.Fprintf(b, " [%s", f.File)
		if f.Offset > 0 {
			fmt.Fprintf(b, " at %d", f.Offset)
		}
		b.WriteByte(']')
	}
	b.WriteByte('\n')
}

// printable replaces what does not show as itself.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
