package shield

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"regexp"
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
	media, params, err := mediaType(contentType)
	if err != nil || !plainCharset(params["charset"]) {
		c.malformed(data)
	}
	switch {
	case media == "application/x-www-form-urlencoded":
		c.form(data, whole)
	case media == "multipart/form-data":
		c.multipart(contentType, data, whole)
	case media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json"):
		c.json(data, whole)
	case media == "text/xml" || media == "application/xml" || strings.HasSuffix(media, "+xml"):
		c.xml(data, whole)
	default:
		c.other(media, data, whole)
	}
	return c
}

// mediaType reads a Content-Type as well as it can. None is no error.
func mediaType(contentType string) (media string, params map[string]string, err error) {
	if contentType == "" {
		return "", nil, nil
	}
	if media, params, err = mime.ParseMediaType(contentType); err != nil {
		media, _, _ = strings.Cut(contentType, ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	return media, params, err
}

// plainCharset reports whether ASCII is itself in a charset, for every reader. In others, such as UTF-7 or IBM037, the
// rules would not see what the app does.
func plainCharset(name string) bool {
	switch strings.ToLower(name) {
	case "", "utf-8", "utf8", "us-ascii", "iso-8859-1":
		return true
	}
	return false
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
	if !slices.Contains(c.findings, FindingMalformed) {
		c.find(FindingMalformed)
		c.add("body", string(data))
	}
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

// form reads application/x-www-form-urlencoded as leniently as apps do. Browsers escape a semicolon; where there is one,
// some begin another field after it. Escapes of the form %u0027 are nobody's standard and some servers' habit.
func (c *content) form(data []byte, whole bool) {
	c.processor, c.raw = "URLENCODED", string(data)
	c.cut(whole)
	if unicodeEscape.Match(data) {
		c.find(FindingMalformed)
	}
	for pair := range strings.SplitSeq(c.raw, "&") {
		if !c.pair(pair) {
			return
		}
		if !strings.Contains(pair, ";") {
			continue
		}
		for piece := range strings.SplitSeq(pair, ";") {
			if strings.Contains(piece, "=") && !c.pair(piece) {
				return
			}
		}
	}
}

var unicodeEscape = regexp.MustCompile("%[uU][0-9A-Fa-f]{4}")

func (c *content) pair(pair string) bool {
	name, value, _ := strings.Cut(pair, "=")
	return pair == "" || c.add(unescape(name), unescape(value))
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

// json reads one or more JSON values. Each string, number and literal is an argument whose name is the way to it, such as
// json.page.tags for each of the tags.
func (c *content) json(data []byte, whole bool) {
	c.processor = "JSON"
	c.cut(whole)
	if _, err := c.jsonValues(data, whole); err != nil || !isUTF8(data, whole) { // RFC 8259 §8.1
		c.malformed(data)
	}
}

// jsonValues reads values up to the first mistake, and tells how many there are.
func (c *content) jsonValues(data []byte, whole bool) (n int, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	for ; ; n++ {
		err := c.jsonValue(d, "json", 1)
		switch {
		case err == io.EOF, errors.Is(err, errLimit), !whole && errors.Is(err, io.ErrUnexpectedEOF):
			return n, nil
		case err != nil:
			return n, err
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

// other reads what has no type that the rules know, or none at all. What looks like JSON they see as JSON, as apps do that
// do not ask for the type, and everything else as text, whatever bytes are in it. Only what is binary and says so says
// nothing to them.
func (c *content) other(media string, data []byte, whole bool) {
	text := bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
	if isWide(text) {
		c.malformed(data)
		return
	}
	if len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		trial := &content{limit: c.limit, seen: c.seen, findings: c.findings, args: c.args, processor: "JSON"}
		n, err := trial.jsonValues(text, whole)
		trial.cut(whole)
		if err == nil {
			*c = *trial
			return
		}
		if n > 0 { // all that readers take which do not look at what follows
			c.args = trial.args
		}
	}
	if isBinary(media, data) {
		if len(c.args) == 0 {
			c.seen = None
		}
		return
	}
	c.add("body", string(data))
}

// isWide reports whether text is UTF-16 or UTF-32, as some readers of JSON and XML find out by themselves.
func isWide(text []byte) bool {
	if bytes.HasPrefix(text, []byte("\xfe\xff")) || bytes.HasPrefix(text, []byte("\xff\xfe")) {
		return true
	}
	start := bytes.TrimLeft(text, "\x00\t\n\r ")
	return len(start) > 0 && strings.IndexByte("{[<\"", start[0]) >= 0 &&
		(len(text) > len(start) && bytes.IndexByte(text[:len(text)-len(start)], 0) >= 0 || len(start) > 1 && start[1] == 0)
}

// binaryTypes are types, and beginnings of types, whose contents are no text.
var binaryTypes = []string{"image/", "audio/", "video/", "font/", "model/", "application/pdf", "application/zip",
	"application/gzip", "application/zstd", "application/x-gzip", "application/x-zip", "application/x-tar", "application/x-7z", "application/x-bzip",
	"application/x-xz", "application/x-git-", "application/vnd.git-lfs", "application/vnd.docker.", "application/vnd.oci.",
	"application/vnd.openxmlformats-", "application/vnd.oasis.opendocument.", "application/vnd.ms-", "application/msword", "application/wasm",
	"application/protobuf", "application/x-protobuf", "application/vnd.google.protobuf", "application/grpc", "application/msgpack",
	"application/x-msgpack", "application/cbor", "application/ocsp-", "application/pkcs", "application/timestamp-query"}

// isBinary reports whether data is as its type says: binary. One byte that texts do not have is enough for that; where the
// type says as good as nothing, it takes one of sixteen.
func isBinary(media string, data []byte) bool {
	if media == "" || media == "application/octet-stream" {
		return oddBytes(data) > len(data)/16
	}
	return slices.ContainsFunc(binaryTypes, func(t string) bool { return strings.HasPrefix(media, t) }) && oddBytes(data) > 0
}

// oddBytes counts the bytes that texts do not have: control characters, and what is not UTF-8.
func oddBytes(data []byte) (n int) {
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' {
			n++
		}
		data = data[size:]
	}
	return n
}

// isUTF8 reports whether data is UTF-8; where it is cut, a character may be, too.
func isUTF8(data []byte, whole bool) bool {
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			return !whole && !utf8.FullRune(data)
		}
		data = data[size:]
	}
	return true
}
