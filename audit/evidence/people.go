package evidence

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

var (
	//go:embed record.schema.json
	recordSchema []byte
	//go:embed summary.html
	summaryText string

	summaryPage = template.Must(template.New("summary").Funcs(template.FuncMap{
		"time": clock, "count": thousands, "line": oneLine, "last": func(end uint64) uint64 { return end - 1 },
	}).Parse(summaryText))
)

// VerifyCommand is what verifies a bundle.
const VerifyCommand = "sallyport audit verify BUNDLE.zip --trust TRUSTFILE"

// summary is the page about the bundle.
func (m *Manifest) summary() []byte {
	var b bytes.Buffer
	if err := summaryPage.Execute(&b, m); err != nil {
		panic("BUG: summary of a bundle: " + err.Error())
	}
	return b.Bytes()
}

// readme is the same in short, for a terminal.
func (m *Manifest) readme() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "AUDIT EVIDENCE\n\nMade %s for %s.\n", clock(m.Created), oneLine(m.Who))
	fmt.Fprintf(&b, "Period: %s\nQuery:  %s\n\n", m.Period(), oneLine(m.QueryText()))
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "log\tfirst index\tend\trecords\tin the period\tmatching\twithheld\tof the log's\t")
	for _, l := range m.Logs {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", l.Log, l.First, l.End, l.Records, l.InPeriod, l.Matching, l.Withheld, l.Size)
	}
	t.Flush()
	b.WriteString(readmeText)
	return b.Bytes()
}

const readmeText = `
HOW TO VERIFY

    ` + VerifyCommand + `

The trust file holds the public keys of the log and of the bundle's manifest. Get it from somewhere else than this bundle,
once, and keep it. Exit code 0 is a pass, 1 tampering, 3 signatures by nobody you trust, 4 something is missing, 5 a pass
with stated gaps. Keep the zip as it is: one that was packed again is no longer what was handed out.

WHAT IS IN IT

    manifest.json   what this bundle holds, with size and SHA-256 of every file
    manifest.note   the signature on it
    records/        the records, one a line in the order of the log: a line that begins with { is a record as it is
                    stored; any other is the leaf hash of a record that is withheld
    matches/        which records the query chooses (first and last index), where a file has both kinds
    checkpoints/    the signed roots of the logs (C2SP tlog-checkpoint)
    proofs/         the hashes that lead from the records to the root (RFC 6962)
    policies/       the policies that decided, by digest: with a record's input they give its decision again
    schema/         the form of records

WHY NOTHING CAN BE MISSING

Each log is a Merkle tree. The proof shows that the records here, at exactly these indexes, one after another, are part of
the tree whose root was signed. A record that was changed, left out, added or moved gives another root. Where a period was
asked for, one more record on either side shows that the range ends where the period does.

Times are what the gateway's clock said; the index alone orders.
`

// Period is the period in words.
func (m *Manifest) Period() string {
	switch {
	case m.From.IsZero() && m.To.IsZero():
		return "everything up to the checkpoint"
	case m.From.IsZero():
		return "up to before " + clock(m.To)
	case m.To.IsZero():
		return "from " + clock(m.From) + " up to the checkpoint"
	}
	return "from " + clock(m.From) + " up to before " + clock(m.To)
}

// QueryText is the query in words.
func (m *Manifest) QueryText() string {
	if m.Query == "" {
		return "all records of the period"
	}
	return m.Query
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// thousands writes a number with commas.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// oneLine is text without anything that moves a terminal's cursor or turns the reading direction.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
