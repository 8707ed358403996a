package export

import (
	"errors"
	"strings"

	"sallyport/audit"
)

// csv writes RFC 4180: a header, CRLF, and quotes around what needs them.
//
// Spreadsheets take a cell that begins with = + - @, a tab or a return for a formula, whatever put it there; some do so
// behind blanks. Such cells begin with an apostrophe here, which spreadsheets take for "this is text". Cells hold printable
// characters only: what does not show as itself is \uXXXX.
type csv struct {
	from    *source
	columns []Column
}

func newCSV(o Options) (*csv, error) {
	columns, err := chosen(o.Columns)
	if err == nil && len(columns) == 0 {
		err = errors.New("CSV without a column")
	}
	if err != nil {
		return nil, err
	}
	return &csv{o.source(), columns}, nil
}

// Header implements Encoder.
func (f *csv) Header() []byte {
	var b []byte
	for i, c := range f.columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, c.Name...)
	}
	return append(b, "\r\n"...)
}

// Append implements Encoder.
func (f *csv) Append(dst []byte, e audit.Entry) ([]byte, error) {
	r, err := f.from.read(e)
	if err != nil {
		return dst, err
	}
	defer f.from.release(r)
	for i := range f.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendCell(dst, f.columns[i].cell(&r.row))
	}
	return append(dst, "\r\n"...), nil
}

func appendCell(dst []byte, cell string) []byte {
	quoted := strings.ContainsAny(cell, "\",\r\n;\t") || strings.HasPrefix(cell, " ") || strings.HasSuffix(cell, " ")
	if quoted {
		dst = append(dst, '"')
	}
	if isFormula(cell) {
		dst = append(dst, '\'')
	}
	for i := range len(cell) {
		if cell[i] == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, cell[i])
	}
	if quoted {
		dst = append(dst, '"')
	}
	return dst
}

// isFormula reports whether a spreadsheet could take a cell for a formula, in the spelling of any script.
func isFormula(cell string) bool {
	for _, r := range strings.TrimLeft(cell, " \u00a0\u3000") {
		return strings.ContainsRune("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20", r)
	}
	return false
}
