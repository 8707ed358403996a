package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// DecodeRecord reads the JSON of one record, without a line break. It accepts exactly what this package writes: every
// accepted line is the only spelling of its record, with the fields in order and a digest that is the input's.
func DecodeRecord(line []byte) (*Record, error) {
	if len(line) > MaxRecord {
		return nil, fmt.Errorf("decoding audit record: %d bytes, more than %d", len(line), MaxRecord)
	}
	r := new(Record)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("decoding audit record: %w", err)
	}
	if r.V != Version {
		return nil, fmt.Errorf("decoding audit record: version %d, this program reads %d", r.V, Version)
	}
	canonical, err := r.line()
	if err != nil {
		return nil, fmt.Errorf("decoding audit record: %w", err)
	}
	if !bytes.Equal(canonical, line) {
		return nil, errors.New("decoding audit record: not in the form the log writes")
	}
	return r, nil
}

// line encodes a record that carries its own stamp.
func (r *Record) line() ([]byte, error) {
	s := stamp{id: r.ID, log: r.Log, boot: r.Boot, time: r.Time, replica: r.Replica}
	buf, seqAt, err := appendRecord(nil, r, &s)
	if err != nil {
		return nil, err
	}
	line := appendLine(make([]byte, 0, len(buf)+maxSeqDigits+1), buf, seqAt, r.Seq)
	return line[:len(line)-1], nil
}
