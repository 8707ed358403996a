package export

import "sallyport/audit"

// jsonl writes records as JSON, one a line: their own bytes, which are not looked at, or redacted.
type jsonl struct{ redact *Redactor }

func newJSONL(o Options) jsonl {
	if o.Disclose {
		return jsonl{}
	}
	return jsonl{Redact(o.Key)}
}

// Header implements Encoder.
func (jsonl) Header() []byte { return nil }

// Append implements Encoder.
func (f jsonl) Append(dst []byte, e audit.Entry) ([]byte, error) {
	if len(e.Raw) == 0 {
		return dst, ErrNotJSON
	}
	if f.redact != nil {
		return append(f.redact.Append(dst, e.Raw), '\n'), nil
	}
	return append(append(dst, e.Raw...), '\n'), nil
}
