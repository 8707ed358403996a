package report

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// page is a report as people read it.
type page struct {
	Title, Lead string
	Header      Header
	Facts       []fact
	Sections    []section
}

// fact is one figure at the top.
type fact struct {
	Name  string
	Value any
}

// section is one part of a page.
type section struct {
	ID, Title string
	Box       bool // set apart
	Text      []string
	Code      []string
	Chart     *chart
	Tables    []table
}

// table is rows of cells: string, []string (lines), uint64, int or when.
type table struct {
	ID      string
	Caption string
	Columns []column
	Rows    [][]any
}

type column struct {
	Name   string
	Number bool
}

// when is a time, or what to say where there is none.
type when struct {
	Time  time.Time
	Never string
}

// maxShown bounds the rows of a table on a page, which people and browsers have to get through. CSV and JSON have all.
const maxShown = 5000

// Shown are the rows that the page shows.
func (t table) Shown() [][]any { return t.Rows[:min(len(t.Rows), maxShown)] }

// More is how many rows it does not show.
func (t table) More() int { return len(t.Rows) - len(t.Shown()) }

// Number reports whether a column holds numbers.
func (t table) Number(i int) bool { return t.Columns[i].Number }

var (
	//go:embed page.html
	pageText string
	//go:embed style.css
	pageStyle string

	pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
		"text": cellText, "lines": cellLines, "style": func() template.CSS { return template.CSS(pageStyle) },
		"period": func(h Header) string { return h.period() }, "isTime": isTime, "machine": machineTime, "count": func(n uint64) string { return thousands(n) },
	}).Parse(pageText))
)

// WriteHTML writes the report as one page that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	if err := pageTemplate.Execute(w, r.page); err != nil {
		return fmt.Errorf("writing report %s: %w", r.Header.Report, err)
	}
	return nil
}

// WriteCSV writes the report as one table (RFC 4180). Text that a spreadsheet would take for a formula begins with an
// apostrophe.
func (r *Report) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	row := make([]string, len(r.csv.Columns))
	for i, column := range r.csv.Columns {
		row[i] = column.Name
	}
	err := c.Write(row)
	for _, cells := range r.csv.Rows {
		for i, cell := range cells {
			row[i] = machineText(cell)
		}
		if err == nil {
			err = c.Write(row)
		}
	}
	if c.Flush(); err == nil {
		err = c.Error()
	}
	if err != nil {
		return fmt.Errorf("writing report %s: %w", r.Header.Report, err)
	}
	return nil
}

// machineText is a cell of CSV.
func machineText(cell any) string {
	switch v := cell.(type) {
	case uint64:
		return strconv.FormatUint(v, 10)
	case int:
		return strconv.Itoa(v)
	case when:
		if v.Time.IsZero() {
			return v.Never
		}
		return v.Time.UTC().Format(time.RFC3339Nano)
	case []string:
		return inert(strings.Join(v, "; "))
	case string:
		return inert(v)
	}
	panic(fmt.Sprintf("BUG: a cell of type %T", cell))
}

// inert keeps spreadsheets from running text (OWASP, CSV injection): Excel and its like take what begins with one of these
// for a formula, also behind spaces, and East Asian editions the wide forms as well.
func inert(s string) string {
	s = printable(s)
	if trimmed := strings.TrimLeftFunc(s, unicode.IsSpace); trimmed != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(trimmed)[0]) {
		return "'" + s
	}
	return s
}

// printable replaces what moves cursors, breaks lines or turns the direction of reading.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// cellText is a cell on the page.
func cellText(cell any) string {
	switch v := cell.(type) {
	case uint64:
		return thousands(v)
	case int:
		return thousands(uint64(v))
	case when:
		if v.Time.IsZero() {
			return v.Never
		}
		return clock(v.Time)
	case []string:
		return printable(strings.Join(v, "; "))
	case string:
		return printable(v)
	}
	panic(fmt.Sprintf("BUG: a cell of type %T", cell))
}

// cellLines are the lines of a cell that has several.
func cellLines(cell any) []string {
	v, ok := cell.([]string)
	if !ok || len(v) < 2 {
		return nil
	}
	lines := make([]string, len(v))
	for i := range v {
		lines[i] = printable(v[i])
	}
	return lines
}

func isTime(cell any) bool {
	v, ok := cell.(when)
	return ok && !v.Time.IsZero()
}

func machineTime(cell any) string { return cell.(when).Time.UTC().Format(time.RFC3339) }

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func (h Header) period() string {
	if h.From.IsZero() {
		return "up to before " + clock(h.To)
	}
	return "from " + clock(h.From) + " up to before " + clock(h.To)
}

// thousands writes a number with commas.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
