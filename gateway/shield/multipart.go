package shield

import (
	"bytes"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// A multipart body is read as RFC 7578 and RFC 2046 §5.1.1 have it and browsers send it. Servers are more lenient, each in
// ways of its own: what one takes for a file is a field to another. All that leaves room for that is FindingMalformed, and
// then the rules see the whole body as text.

// multipart reads fields, and of files their names. A body that is cut is no finding: uploads are long.
func (c *content) multipart(contentType string, data []byte, whole bool) {
	c.processor = "MULTIPART"
	boundary, ok := boundaryOf(contentType)
	if !ok {
		c.malformed(data)
		return
	}
	parts, ok := split(data, []byte("--"+boundary), whole)
	for n, part := range parts {
		if n == c.limit.Parts {
			c.find(FindingParts)
			c.seen = Part
			return
		}
		if !c.part(part, whole || n < len(parts)-1) {
			ok = false
			break
		}
	}
	if !ok {
		c.malformed(data)
	}
}

// formDataType is a type with its boundary, in which no reader finds another one.
var formDataType = regexp.MustCompile(`^(?i:multipart/form-data)(?:; ?(?i:charset)=[\w-]+)?; ?(?i:boundary)=(?:([\w'()+./:=?-]{1,70})|"([\w'()+./:=?-]{1,70})")(?:; ?(?i:charset)=[\w-]+)?$`)

func boundaryOf(contentType string) (boundary string, ok bool) {
	found := formDataType.FindStringSubmatch(contentType)
	if found == nil {
		return "", false
	}
	return found[1] + found[2], true
}

// split cuts a body at its delimiters. It is not ok if something begins a line as a delimiter does and is none, or if there
// is anything before the first or after the last.
func split(data, delimiter []byte, whole bool) (parts [][]byte, ok bool) {
	start := -1 // of the part
	for at := 0; ; {
		n := bytes.Index(data[at:], delimiter)
		if n < 0 {
			break
		}
		n += at
		at = n + len(delimiter)
		before, after := data[max(start, 0):n], data[at:]
		switch {
		case n > 0 && data[n-1] != '\n' && data[n-1] != '\r':
			continue
		case start < 0 && len(bytes.TrimSpace(before)) > 0:
			return parts, false
		case start >= 0 && !bytes.HasSuffix(before, []byte("\r\n")):
			return parts, false
		case start >= 0:
			parts = append(parts, before[:len(before)-2])
		}
		switch {
		case bytes.HasPrefix(after, []byte("\r\n")):
			start = at + 2
		case bytes.HasPrefix(after, []byte("--")):
			return parts, len(bytes.TrimSpace(after[2:])) == 0
		default:
			return parts, !whole && len(after) < 2
		}
	}
	if whole || start < 0 {
		return parts, false
	}
	return append(parts, data[start:]), true
}

// part reads one part, and reports whether all readers would read it so.
func (c *content) part(data []byte, whole bool) bool {
	head, value, found := bytes.Cut(data, []byte("\r\n\r\n"))
	if !found {
		return !whole
	}
	header, ok := partHeader(string(head))
	if !ok {
		return false
	}
	d, ok := parseDisposition(header["content-disposition"])
	if !ok {
		return false
	}
	for name, text := range header {
		c.parts = append(c.parts, argument{d.name, name + ": " + text})
	}
	if d.file {
		c.files = append(c.files, argument{d.name, d.filename})
	}
	if !d.file || d.filename == "" { // which is a field to some
		c.add(d.name, string(value))
	}
	return d.name != "_charset_" || plainCharset(string(value)) // RFC 7578 §4.6
}

// partLine is a field of a part's header: on one line, and without control characters.
var partLine = regexp.MustCompile(`^([A-Za-z0-9-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)$`)

// partHeader reads a part's header, by names in lower case. Readers differ on fields that are there twice, and on which
// encodings they undo (RFC 7578 §4.7).
func partHeader(head string) (header map[string]string, ok bool) {
	header = map[string]string{}
	for line := range strings.SplitSeq(head, "\r\n") {
		field := partLine.FindStringSubmatch(line)
		if field == nil {
			return nil, false
		}
		name := strings.ToLower(field[1])
		if _, twice := header[name]; twice {
			return nil, false
		}
		header[name] = strings.TrimRight(field[2], " \t")
	}
	encoding, encoded := header["content-transfer-encoding"]
	if encoded && !slices.Contains([]string{"7bit", "8bit", "binary"}, strings.ToLower(encoding)) {
		return nil, false
	}
	media, params, err := mediaType(header["content-type"])
	return header, err == nil && !strings.HasPrefix(media, "multipart/") && plainCharset(params["charset"])
}

// disposition is what a part says of itself.
type disposition struct {
	name, filename string
	file           bool
}

// A disposition's value has no backslash: some read an escape in it, some do not.
var (
	dispositionLine  = regexp.MustCompile(`^(?i:form-data)((?:[ \t]*;[ \t]*[A-Za-z0-9*_-]+=(?:"[^"\\]*"|[^\s"\\;,=]+))+)$`)
	dispositionParam = regexp.MustCompile(`([A-Za-z0-9*_-]+)=(?:"([^"\\]*)"|([^\s"\\;,=]+))`)
)

// parseDisposition reads a Content-Disposition. A part is a file by its filename alone; filename* (RFC 7578 §4.2 forbids it)
// may say the same beside that, but nothing else.
func parseDisposition(line string) (d disposition, ok bool) {
	found := dispositionLine.FindStringSubmatch(line)
	if found == nil {
		return d, false
	}
	params := map[string]string{}
	for _, p := range dispositionParam.FindAllStringSubmatch(found[1], -1) {
		name := strings.ToLower(p[1])
		_, twice := params[name]
		if twice || strings.Contains(name, "name") && name != "name" && name != "filename" && name != "filename*" {
			return d, false
		}
		params[name] = p[2] + p[3]
	}
	d.name = params["name"]
	d.filename, d.file = params["filename"]
	if extended, has := params["filename*"]; has && (!d.file || !strings.EqualFold(extended, "utf-8''"+url.PathEscape(d.filename))) {
		return d, false
	}
	return d, d.name != ""
}
