package export

import (
	"sync"
	"unsafe"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// source gives formats what they may show of a record: its own JSON, or the redacted one, taken apart. It may be used from
// several goroutines.
type source struct {
	redact *Redactor // nil: everything may be shown
	spare  sync.Pool // of *reading
}

func (o *Options) source() *source {
	s := &source{}
	if !o.Disclose {
		s.redact = Redact(o.Key)
	}
	return s
}

// reading is one record. Its text and all that was taken from it are valid until it is released.
type reading struct {
	row
	line string // the JSON
	buf  []byte // of line, where it was redacted
}

// row is a record taken apart, with what it says of the request.
type row struct {
	view
	request
}

// read reads a record; the caller releases what it gets.
func (s *source) read(e audit.Entry) (*reading, error) {
	if len(e.Raw) == 0 {
		return nil, ErrNotJSON
	}
	r, ok := s.spare.Get().(*reading)
	if !ok {
		r = new(reading)
	}
	r.line = borrowed(e.Raw)
	if s.redact != nil {
		r.buf = s.redact.Append(r.buf[:0], e.Raw)
		r.line = borrowed(r.buf)
	}
	if !r.row.parse(r.line) {
		s.release(r)
		return nil, ErrNotJSON
	}
	return r, nil
}

// release gives a reading back, to be used for another record.
func (s *source) release(r *reading) {
	r.row, r.line = row{}, ""
	s.spare.Put(r)
}

// parse takes a record apart, in one pass.
func (r *row) parse(line string) bool {
	p := peek.Parse(line)
	for p.Enter(); p.Next(); {
		if p.Name == "input" && p.IsObject() {
			r.hasInput = true
			r.request.take(p)
		} else {
			r.view.take(p)
		}
	}
	if !r.hasInput {
		r.ofDetail(r.detail)
	}
	return p.Done()
}

// borrowed is bytes as a string without a copy: it is valid as long as nobody writes to them. Copying each record three
// times would cost a third of the speed, most of it in the garbage collector.
func borrowed(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
