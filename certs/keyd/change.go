package keyd

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"sallyport/certs/internal/wire"
)

// change answers the operations that make, adopt and rotate keys.
func (x *exchange) change(op wire.Op, body []byte) ([]byte, wire.Code) {
	if op == wire.OpRotate && !x.peer.operates {
		return []byte("only root and keyd's own user rotate keys"), wire.Forbidden
	}
	if op != wire.OpRotate && !x.peer.maySign {
		return []byte("this user is not in allow_uids"), wire.Forbidden
	}
	return answerOf(x.changed(op, body))
}

// answerOf is the answer to an operation that names its key in the body, or names none.
func answerOf(body []byte, err error) ([]byte, wire.Code) {
	if err == nil {
		return body, wire.OK
	}
	if r, ok := errors.AsType[refusal](err); ok {
		return []byte(r), wire.Refused
	}
	switch {
	case errors.Is(err, errBody):
		return []byte(err.Error()), wire.Malformed
	case errors.Is(err, errNoKey):
		return []byte(err.Error()), wire.UnknownKey
	}
	return []byte(err.Error()), wire.Failed
}

// succession answers sign_succession, which tells what was signed: everybody may look.
func (x *exchange) succession(body []byte) ([]byte, wire.Code) {
	id, base, err := wire.SplitSignBody(body)
	if err != nil {
		return []byte(err.Error()), wire.Malformed
	}
	notes, err := x.custody.succession(id, string(base))
	return answerOf(notes, err)
}

func (x *exchange) changed(op wire.Op, body []byte) ([]byte, error) {
	switch op {
	case wire.OpMakeCSR:
		var r wire.CSRRequest
		if err := decodeBody(body, &r); err != nil {
			return nil, err
		}
		k, der, err := x.custody.makeCSR(r)
		if err != nil {
			return nil, err
		}
		x.signing.signed(k.Name, op)
		return wire.SignBody(k.id, der), nil
	case wire.OpAdoptKey:
		if len(body) != len(wire.KeyID{}) {
			return nil, errBody
		}
		return nil, x.custody.adopt(wire.KeyID(body))
	}
	var r wire.RotateRequest
	if err := decodeBody(body, &r); err != nil {
		return nil, err
	}
	done, err := x.custody.rotate(r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(done)
}

// errBody means that the body is not what the operation takes.
var errBody = errors.New("not the body of this operation")

// decodeBody reads one JSON object without unknown members, of which the last counts if a name comes twice: what is
// signed is written by keyd.
func decodeBody(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if d.Decode(into) != nil {
		return errBody
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errBody
	}
	return nil
}
