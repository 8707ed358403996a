package export

import "sallyport/audit"

// jsonl writes records as JSON, one a line: their own bytes, or redacted.
type jsonl struct{ redact *Redactor }

// Header implements Encoder.
func (jsonl) Header() []byte { return nil }

// Append implements Encoder.
func (f jsonl) Append(dst []byte, e audit.Entry) ([]byte, error) {
	if f.redact == nil {
		if len(e.Raw) == 0 {
			return dst, ErrNotJSON
		}
		return append(append(dst, e.Raw...), '\n'), nil
	}
	return append(f.redact.Append(dst, e.Raw), '\n'), nil
}
