package peek

// Parser reads a JSON text from the left, each value once: an object is entered, or passed over as one value.
//
//	p := peek.Parse(line)
//	for p.Enter(); p.Next(); {
//		switch p.Name {
//		case "id":
//			id = p.Value()
//		default:
//			p.Value()
//		}
//	}
//	if !p.Done() { … }
//
// After Next each value must be taken, by Value or by entering it and reading to its end.
type Parser struct {
	// Name is the name of the current member, without its quotes, as it is spelled.
	Name string

	text   string
	at     int
	begun  bool // an object was entered and nothing of it was read
	broken bool
}

// Parse begins to read a text.
func Parse(text string) *Parser { return &Parser{text: text} }

// Enter enters the object that comes next. Where there is none, nothing is entered and the text counts as broken.
func (p *Parser) Enter() {
	if !p.IsObject() {
		p.broken = true
		return
	}
	p.at++
	p.begun = true
}

// IsObject reports whether what comes next is an object.
func (p *Parser) IsObject() bool {
	p.at = space(p.text, p.at)
	return p.at < len(p.text) && p.text[p.at] == '{'
}

// Next reads the name of the next member. It is false at the end of the object, which is left then, and where the text is
// broken.
func (p *Parser) Next() bool {
	if p.broken || !p.more() {
		return false
	}
	end := -1
	if p.at < len(p.text) && p.text[p.at] == '"' {
		end = skipString(p.text, p.at)
	}
	if end < 0 {
		return p.fail()
	}
	p.Name = p.text[p.at+1 : end-1]
	if p.at = space(p.text, end); p.at == len(p.text) || p.text[p.at] != ':' {
		return p.fail()
	}
	p.at = space(p.text, p.at+1)
	return true
}

// more passes over what comes before a member: a comma, unless it is the first; false where the object ends.
func (p *Parser) more() bool {
	first := p.begun
	p.begun = false
	p.at = space(p.text, p.at)
	switch {
	case p.at == len(p.text):
		return p.fail()
	case p.text[p.at] == '}':
		p.at++
		return false
	case first:
		return true
	case p.text[p.at] != ',':
		return p.fail()
	}
	p.at = space(p.text, p.at+1)
	return true
}

func (p *Parser) fail() bool {
	p.broken = true
	return false
}

// Value passes over the current value and returns it as it is spelled; empty where the text is broken.
func (p *Parser) Value() string {
	end := -1
	if !p.broken {
		end = skip(p.text, p.at)
	}
	if end < 0 {
		p.broken = true
		return ""
	}
	value := p.text[p.at:end]
	p.at = end
	return value
}

// Done reports whether the text was read to its end and was not broken.
func (p *Parser) Done() bool { return !p.broken && p.at == len(p.text) }
