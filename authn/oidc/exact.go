package oidc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// exact decodes an object by the exact names of its members and keeps numbers as they are written. A member that occurs
// twice is an error: which of the two counts, parsers differ in (RFC 8259 §4).
func exact(into *map[string]any) json.Unmarshaler { return &exactObject{into} }

type exactObject struct{ into *map[string]any }

// UnmarshalJSON reads one object and nothing after it.
func (o *exactObject) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	value, err := readValue(dec, 0)
	if err != nil {
		return err
	}
	object, ok := value.(map[string]any)
	if _, err := dec.Token(); !ok || !errors.Is(err, io.EOF) {
		return errors.New("not one JSON object")
	}
	*o.into = object
	return nil
}

const maxDepth = 20

func readValue(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, errors.New("JSON is nested too deeply")
	}
	switch token {
	case json.Delim('{'):
		return readObject(dec, depth)
	case json.Delim('['):
		return readList(dec, depth)
	}
	return token, nil
}

func readObject(dec *json.Decoder, depth int) (map[string]any, error) {
	object := map[string]any{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if _, twice := object[name]; twice || !ok {
			return nil, errors.New("a member of an object occurs twice")
		}
		if object[name], err = readValue(dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return object, err
}

func readList(dec *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for dec.More() {
		value, err := readValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	_, err := dec.Token()
	return list, err
}

// checkHeader reads the header of a JWT in compact form before anything is done by what it says (RFC 8725 §3.1). Keys and
// addresses in it are left alone; extensions that must be understood are not (RFC 7515 §4.1.11). With a typ, one that is
// present must be it (§3.11).
func checkHeader(raw string, algorithms []string, typ string) *Failure {
	head, _, found := strings.Cut(raw, ".")
	if !found || len(raw) > maxToken || strings.Count(raw, ".") != 2 {
		return fail(TokenInvalid, "token of %d bytes is not three parts", len(raw))
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(head)
	if err != nil {
		return fail(TokenInvalid, "header is not base64url")
	}
	var header map[string]any
	if err := exact(&header).UnmarshalJSON(data); err != nil {
		return fail(TokenInvalid, "reading header: %s", excerpt(err.Error()))
	}
	if _, critical := header["crit"]; critical {
		return fail(TokenInvalid, "header has extensions that must be understood")
	}
	if alg, ok := header["alg"].(string); !ok || !slices.Contains(algorithms, alg) {
		return fail(TokenAlgorithm, "alg %s is not one of the provider's", excerpt(fmt.Sprint(header["alg"])))
	}
	if said, present := header["typ"]; typ != "" && present && !isType(said, typ) {
		return fail(TokenInvalid, "typ is not %s", typ)
	}
	return nil
}

// isType compares a typ header as a media type, with or without its prefix (RFC 7515 §4.1.9).
func isType(said any, want string) bool {
	is, _ := said.(string)
	return strings.EqualFold(is, want) || strings.EqualFold(is, "application/"+want)
}
