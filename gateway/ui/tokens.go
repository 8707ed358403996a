package ui

// Tokens shows a person the tokens that they made for programs, and lets them make and revoke some.
type Tokens struct {
	Frame
	Notice string   // what was just done; empty: nothing
	Made   NewToken // just made; without a Secret there is none
	List   []Token  // newest first
	Action string   // URL that every form posts to
	Form   TokenForm
	// Confirm is the URL where the person proves themselves anew, which making a token asks for. Empty: they did lately.
	Confirm string
}

// NewToken is a token on the one page that shows its secret.
type NewToken struct {
	Name, Secret string
	URL          string // of an app that it opens, for the examples
}

// Token is a token as its owner sees it. Nothing of its secret is known.
type Token struct {
	ID, Name               string
	Apps                   []string // as people read them
	Methods                string   // in words
	Created, Used, Expires Moment
	State                  string // in a word; a token that does not work says why
	Live                   bool   // it can be revoked
}

// TokenForm is the form that asks for a token, with what was filled in.
type TokenForm struct {
	Problem   string // what is wrong with what was sent; empty: nothing
	Name      string
	Apps      []Option
	Methods   string // read, all or chosen
	Chosen    []Option
	Lifetimes []Option
}

// Option is one of several to choose from.
type Option struct {
	Value, Label string
	Chosen       bool
}

func (p Tokens) sheet() sheet {
	return sheet{Frame: &p.Frame, Tokens: &p, Title: "Access tokens", FormAction: p.FormAction}
}
