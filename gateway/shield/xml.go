package shield

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// xml reads texts, attributes and instructions. A text goes on over comments, CDATA sections and instructions, as it does
// in a document that an app has read, and where elements are among text, all of it together is one more. Declarations are
// a finding: entities are not expanded, and nothing is fetched.
func (c *content) xml(data []byte, whole bool) {
	c.processor = "XML"
	c.cut(whole)
	in := &xmlReader{content: c, decoder: xml.NewDecoder(bytes.NewReader(data))}
	in.decoder.CharsetReader = plainReader
	err := in.read()
	switch {
	case errors.Is(err, errLimit):
		c.seen = Part
	case err != io.EOF && whole, in.declares:
		c.malformed(data)
	}
}

// xmlReader reads a document into content.
type xmlReader struct {
	*content
	decoder  *xml.Decoder
	open     []xml.Name
	text     strings.Builder // since the last tag
	all      strings.Builder // of the texts
	closed   bool            // the last tag was an end
	mixed    bool            // there are elements among text
	declares bool
}

// read reads to the end, which is io.EOF, or to the first mistake or limit.
func (in *xmlReader) read() error {
	for {
		token, err := in.decoder.RawToken()
		if err == io.EOF && len(in.open) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = in.token(token)
		}
		if err == nil {
			continue
		}
		if flushed := in.flush(false); flushed != nil {
			return flushed
		}
		if in.mixed {
			in.texts = append(in.texts, in.all.String())
		}
		return err
	}
}

func (in *xmlReader) token(token xml.Token) error {
	switch token := token.(type) {
	case xml.StartElement:
		return in.start(token)
	case xml.EndElement:
		n := len(in.open) - 1
		if n < 0 || in.open[n] != token.Name {
			return errors.New("an end without its beginning")
		}
		in.open = in.open[:n]
		err := in.flush(false)
		in.closed = true
		return err
	case xml.CharData:
		in.text.Write(token)
	case xml.ProcInst:
		if token.Target != "xml" {
			return in.show(string(token.Inst))
		}
	case xml.Directive:
		in.declares = true
		return in.show(string(token))
	}
	return nil
}

func (in *xmlReader) start(element xml.StartElement) error {
	if err := in.flush(true); err != nil {
		return err
	}
	in.closed = false
	in.open = append(in.open, element.Name)
	if len(in.open) > in.limit.Depth {
		in.find(FindingDepth)
		return errLimit
	}
	for _, a := range element.Attr {
		in.attrs = append(in.attrs, a.Value)
	}
	return in.bounded()
}

// flush shows the text before a tag, which begins an element or does not.
func (in *xmlReader) flush(begins bool) error {
	text := in.text.String()
	in.text.Reset()
	in.all.WriteString(text)
	if text = strings.TrimSpace(text); text == "" {
		return nil
	}
	in.mixed = in.mixed || begins || in.closed
	return in.show(text)
}

func (in *xmlReader) show(text string) error {
	in.texts = append(in.texts, text)
	return in.bounded()
}

func (in *xmlReader) bounded() error {
	if len(in.texts)+len(in.attrs) > in.limit.Arguments {
		in.find(FindingArguments)
		return errLimit
	}
	return nil
}

// plainReader reads what says that it is in another charset than UTF-8.
func plainReader(charset string, in io.Reader) (io.Reader, error) {
	if !plainCharset(charset) {
		return nil, fmt.Errorf("charset %q", charset)
	}
	data, err := io.ReadAll(in)
	var text strings.Builder
	for _, b := range data {
		text.WriteRune(rune(b))
	}
	return strings.NewReader(text.String()), err
}
