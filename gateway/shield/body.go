package shield

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// content is what a body holds, as the rules look at it. It is read here and not by Coraza, whose readers have no limit on
// depth or on the memory that flattened names take, and write uploaded files to disk.
type content struct {
	limit     *Rules
	processor string // what the rules call the way it was read
	raw       string
	args      []argument
	files     []argument // a part's field and file name
	parts     []argument // a part's field and one header line of it
	texts     []string   // of XML, with its declarations
	attrs     []string
	findings  []int // of our own
	seen      Body
}

type argument struct{ name, value string }

// Body says how much of a body the rules saw.
type Body string

// The extents.
const (
	None  Body = "none"  // nothing: there is none, or none that can be read
	Whole Body = "whole" // all
	Part  Body = "part"  // the rest was cut off, or too much for the limits
)

// read reads data, which is all of the body if whole. Encoded bodies are not decoded: a small one may become any number
// of bytes (DOS-20), and only the app knows which it would take. The core rules find the field that announces them.
func read(limit *Rules, contentType, encoding string, data []byte, whole bool) *content {
	c := &content{limit: limit, seen: None}
	if len(data) == 0 || encoding != "" && !strings.EqualFold(encoding, "identity") {
		return c
	}
	c.seen = Part
	if whole {
		c.seen = Whole
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		media, _, _ = strings.Cut(contentType, ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	switch {
	case media == "application/x-www-form-urlencoded":
		c.form(data, whole)
	case media == "multipart/form-data":
		c.multipart(data, params["boundary"], whole)
	case media == "application/json" || strings.HasSuffix(media, "+json"):
		c.json(data, whole)
	case media == "text/xml" || media == "application/xml" || strings.HasSuffix(media, "+xml"):
		c.xml(data, whole)
	default:
		c.other(data, whole)
	}
	return c
}

// find notes a finding of our own, once.
func (c *content) find(id int) {
	if !slices.Contains(c.findings, id) {
		c.findings = append(c.findings, id)
	}
}

// cut notes that a body, which apps read as a whole, goes on after what is inspected.
func (c *content) cut(whole bool) {
	if !whole {
		c.find(FindingLong)
	}
}

// malformed notes a body that is not what it says, and shows it to the rules as text: an app may take it all the same.
func (c *content) malformed(data []byte) {
	c.find(FindingMalformed)
	c.add("body", string(data))
}

// add takes one argument, or says that there are too many.
func (c *content) add(name, value string) bool {
	if len(c.args) >= c.limit.Arguments {
		c.find(FindingArguments)
		c.seen = Part
		return false
	}
	c.args = append(c.args, argument{name, value})
	return true
}

// form reads application/x-www-form-urlencoded as leniently as apps do.
func (c *content) form(data []byte, whole bool) {
	c.processor, c.raw = "URLENCODED", string(data)
	c.cut(whole)
	for pair := range strings.SplitSeq(c.raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if pair != "" && !c.add(unescape(name), unescape(value)) {
			return
		}
	}
}

// unescape decodes what is an escape and leaves what is none.
func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b = append(b, byte(n))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// multipart reads fields, and of files their names. A body that is cut is no finding: uploads are long.
func (c *content) multipart(data []byte, boundary string, whole bool) {
	c.processor = "MULTIPART"
	if boundary == "" {
		c.malformed(data)
		return
	}
	in := multipart.NewReader(bytes.NewReader(data), boundary)
	for n := 0; ; n++ {
		part, err := in.NextPart()
		if err == io.EOF {
			return
		}
		if err == nil && n == c.limit.Parts {
			c.find(FindingParts)
			c.seen = Part
			return
		}
		if err == nil {
			err = c.part(part)
		}
		if err != nil {
			if whole || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				c.malformed(data)
			}
			return
		}
	}
}

// part reads one part. What a browser would not send, two servers may read in two ways.
func (c *content) part(p *multipart.Part) error {
	field := p.FormName()
	for name, values := range p.Header {
		for _, value := range values {
			c.parts = append(c.parts, argument{field, name + ": " + value})
		}
		if len(values) > 1 {
			c.find(FindingMalformed)
		}
	}
	disposition := strings.ToLower(p.Header.Get("Content-Disposition"))
	_, params, err := mime.ParseMediaType(disposition)
	if err != nil || strings.Count(disposition, "filename") > 1 || strings.Contains(disposition, "filename*") {
		c.find(FindingMalformed)
	}
	if name := params["filename"]; name != "" || p.FileName() != "" || strings.Contains(disposition, "filename") {
		c.files = append(c.files, argument{field, name})
		_, err := io.Copy(io.Discard, p)
		return err
	}
	value, err := io.ReadAll(p)
	if !c.add(field, string(value)) {
		return nil
	}
	return err
}

// json reads one or more JSON values. Each string, number and literal is an argument whose name is the way to it, such as
// json.page.tags for each of the tags.
func (c *content) json(data []byte, whole bool) {
	c.processor = "JSON"
	c.cut(whole)
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	for {
		err := c.jsonValue(d, "json", 1)
		switch {
		case err == io.EOF, errors.Is(err, errLimit):
			return
		case err != nil && !whole && errors.Is(err, io.ErrUnexpectedEOF):
			return
		case err != nil:
			c.malformed(data)
			return
		}
	}
}

// errLimit says that the rest is not looked at, which is a finding.
var errLimit = errors.New("limit reached")

// maxKey bounds what a key adds to the names of all that is below it; a longer one is inspected once, as a value.
const maxKey = 64

func (c *content) jsonValue(d *json.Decoder, name string, depth int) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case json.Delim:
		return c.jsonNested(d, token, name, depth)
	case string:
		return c.leaf(name, token)
	case json.Number:
		return c.leaf(name, token.String())
	case bool:
		return c.leaf(name, strconv.FormatBool(token))
	}
	return c.leaf(name, "")
}

func (c *content) leaf(name, value string) error {
	if !c.add(name, value) {
		return errLimit
	}
	return nil
}

// jsonNested reads an object or a list whose beginning was read.
func (c *content) jsonNested(d *json.Decoder, open json.Delim, name string, depth int) error {
	if depth > c.limit.Depth {
		c.find(FindingDepth)
		c.seen = Part
		return errLimit
	}
	empty := true
	for ; d.More(); empty = false {
		at := name
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return unexpected(err)
			}
			text, ok := key.(string)
			if !ok {
				return errors.New("a key is no string")
			}
			if len(text) > maxKey {
				if err := c.leaf(name, text); err != nil {
					return err
				}
				text = text[:maxKey]
			}
			at = name + "." + text
		}
		if err := c.jsonValue(d, at, depth+1); err != nil {
			return unexpected(err)
		}
	}
	if _, err := d.Token(); err != nil { // the end
		return unexpected(err)
	}
	if empty {
		return c.leaf(name, "") // or a million empty lists would cost nothing here and a lot there
	}
	return nil
}

// unexpected is what the end of the data means inside a value.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// xml reads texts, attributes and declarations. Entities are not expanded, and nothing is fetched.
func (c *content) xml(data []byte, whole bool) {
	c.processor = "XML"
	c.cut(whole)
	d := xml.NewDecoder(bytes.NewReader(data))
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // the ASCII in it is what rules look for
	depth := 0
	for n := 0; ; {
		token, err := d.RawToken()
		if err != nil {
			if err != io.EOF && whole {
				c.malformed(data)
			}
			return
		}
		switch token := token.(type) {
		case xml.StartElement:
			depth++
			for _, a := range token.Attr {
				c.attrs = append(c.attrs, a.Value)
				n++
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				c.texts = append(c.texts, text)
				n++
			}
		case xml.Directive:
			c.texts = append(c.texts, string(token))
			n++
		}
		if depth > c.limit.Depth {
			c.find(FindingDepth)
			c.seen = Part
			return
		}
		if n > c.limit.Arguments {
			c.find(FindingArguments)
			c.seen = Part
			return
		}
	}
}

// other reads what has no type that the rules know, or none at all. What is text they see as such, and what looks like
// JSON as JSON, as apps do that do not ask for the type. Anything else says nothing to them.
func (c *content) other(data []byte, whole bool) {
	if !isText(data, whole) {
		c.seen = None
		return
	}
	text := bytes.TrimSpace(data)
	if len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		trial := &content{limit: c.limit, seen: c.seen}
		if trial.json(data, whole); !slices.Contains(trial.findings, FindingMalformed) {
			*c = *trial
			return
		}
	}
	c.add("body", string(data))
}

// isText reports whether data is UTF-8 without control characters; where it is cut, a character may be, too.
func isText(data []byte, whole bool) bool {
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return !whole && !utf8.FullRune(data)
		case r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f':
			return false
		}
		data = data[size:]
	}
	return true
}
