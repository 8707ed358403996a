package policy

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// allowed are the built-in functions policies may call. Together with denied it names every function of the embedded
// OPA, so that a new one is nobody's until someone has thought about it.
var allowed = strings.Fields(`
	eq equal neq lt lte gt gte assign
	plus minus mul div rem abs ceil floor round
	and or set_diff intersection union
	array.concat array.flatten array.reverse array.slice
	object.filter object.get object.keys object.remove object.subset object.union object.union_n
	json.filter json.is_valid json.marshal json.marshal_with_options json.patch json.remove json.unmarshal
	count max min product sum sort numbers.range numbers.range_step
	bits.and bits.negate bits.or bits.rsh bits.xor
	concat contains endswith format_int indexof indexof_n lower replace split sprintf startswith
	strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n strings.reverse strings.split_n
	substring trim trim_left trim_prefix trim_right trim_space trim_suffix upper
	base64.decode base64.encode base64.is_valid base64url.decode base64url.encode base64url.encode_no_pad
	hex.decode hex.encode urlquery.decode urlquery.decode_object urlquery.encode urlquery.encode_object
	uri.is_valid uri.parse uuid.parse semver.compare semver.is_valid units.parse units.parse_bytes to_number
	is_array is_boolean is_null is_number is_object is_set is_string type_name
	crypto.hmac.equal crypto.hmac.sha256 crypto.hmac.sha512 crypto.sha256
	net.cidr_contains net.cidr_contains_matches net.cidr_intersects net.cidr_is_valid net.cidr_merge
	graph.reachable graph.reachable_paths walk
	glob.quote_meta regex.is_valid
	glob.match regex.find_all_string_submatch_n regex.find_n regex.match regex.replace regex.split
	time.add_date time.clock time.date time.diff time.format time.parse_duration_ns time.parse_ns
	time.parse_rfc3339_ns time.weekday
	internal.member_2 internal.member_3 internal.template_string internal.print internal.test_case print
	rego.metadata.chain rego.metadata.rule
`)

// denied are the other ones, by why.
var denied = map[string][]string{
	"reaches out of the process": strings.Fields(`http.send net.lookup_ip_addr providers.aws.sign_req`),
	"gives another answer at another time or on another machine": strings.Fields(`
		time.now_ns rand.intn uuid.rfc4122 opa.runtime`),
	"judges or handles credentials and keys, which is not the policy's part": strings.Fields(`
		io.jwt.decode io.jwt.decode_verify io.jwt.encode_sign io.jwt.encode_sign_raw
		io.jwt.verify_eddsa io.jwt.verify_es256 io.jwt.verify_es384 io.jwt.verify_es512
		io.jwt.verify_hs256 io.jwt.verify_hs384 io.jwt.verify_hs512
		io.jwt.verify_ps256 io.jwt.verify_ps384 io.jwt.verify_ps512
		io.jwt.verify_rs256 io.jwt.verify_rs384 io.jwt.verify_rs512
		crypto.parse_private_keys crypto.x509.parse_and_verify_certificates
		crypto.x509.parse_and_verify_certificates_with_options crypto.x509.parse_certificate_request
		crypto.x509.parse_certificates crypto.x509.parse_keypair crypto.x509.parse_rsa_private_key`),
	"may load schemas from elsewhere": strings.Fields(`json.match_schema json.verify_schema`),
	"is broken cryptography":          strings.Fields(`crypto.md5 crypto.sha1 crypto.hmac.md5 crypto.hmac.sha1`),
	"cannot be stopped or bounded in time": strings.Fields(`regex.globs_match regex.template_match
		strings.render_template bits.lsh net.cidr_expand rego.parse_module
		graphql.is_valid graphql.parse graphql.parse_and_verify graphql.parse_query graphql.parse_schema
		graphql.schema_is_valid yaml.is_valid yaml.marshal yaml.unmarshal`),
	"is deprecated in Rego v1": strings.Fields(`all any cast_array cast_boolean cast_null cast_object cast_set
		cast_string net.cidr_overlap re_match trace`),
}

// regoFeatures are the language features of policies.
var regoFeatures = []string{ast.FeatureKeywordsInRefs, ast.FeatureRegoV1, ast.FeatureTemplateStrings}

// guardPrefix marks our versions of built-in functions in compiled policies.
const guardPrefix = "sallyport.guarded."

// guards check the arguments of functions that are fine for most arguments; the rest is an evaluation error.
var guards = map[string]func(args []*ast.Term) error{
	"time.clock":                       guardZone,
	"time.date":                        guardZone,
	"time.weekday":                     guardZone,
	"time.format":                      guardZone,
	"time.add_date":                    guardZone,
	"time.diff":                        guardZone,
	"time.parse_ns":                    guardLayout,
	"glob.match":                       guardGlob,
	"regex.match":                      guardRegex(0, 1),
	"regex.split":                      guardRegex(0, 1),
	"regex.find_n":                     guardRegex(0, 1),
	"regex.find_all_string_submatch_n": guardRegex(0, 1),
	"regex.replace":                    guardRegex(1, 0),
}

var errMachineZone = errors.New(`the zone "Local" means another one on every machine: name one, such as Europe/Berlin`)

// guardZone refuses the machine's own time zone, wherever a time argument may name one.
func guardZone(args []*ast.Term) error {
	for _, a := range args {
		list, ok := a.Value.(*ast.Array)
		if !ok || list.Len() < 2 {
			continue
		}
		if zone, ok := list.Elem(1).Value.(ast.String); ok && strings.EqualFold(string(zone), "local") {
			return errMachineZone
		}
	}
	return nil
}

// guardLayout refuses zone abbreviations, which time.Parse resolves by the machine's own zone.
func guardLayout(args []*ast.Term) error {
	layout, ok := args[0].Value.(ast.String)
	named := []string{"UnixDate", "RFC822", "RFC850", "RFC1123"}
	if ok && (strings.Contains(string(layout), "MST") || slices.Contains(named, string(layout))) {
		return errors.New("time zone abbreviations mean another zone on every machine: use a layout with an offset")
	}
	return nil
}

const (
	maxGlob     = 256
	maxGlobText = 4 << 10
	// maxRegexSteps bounds instructions times bytes, which RE2 never exceeds: some 100 ms.
	maxRegexSteps = 8 << 20
)

// guardGlob bounds what cannot be stopped once it runs.
func guardGlob(args []*ast.Term) error {
	if stringLen(args[0]) > maxGlob || stringLen(args[2]) > maxGlobText {
		return fmt.Errorf("glob.match takes patterns of %d and texts of %d bytes", maxGlob, maxGlobText)
	}
	return nil
}

// guardRegex bounds what cannot be stopped once it runs: a match takes time proportional to the length of the text and
// the size of the compiled pattern.
func guardRegex(pattern, text int) func(args []*ast.Term) error {
	return func(args []*ast.Term) error {
		p, ok := args[pattern].Value.(ast.String)
		length := stringLen(args[text])
		if !ok || length*len(p) <= maxRegexSteps>>8 { // a byte of pattern compiles to fewer than 256 instructions
			return nil
		}
		parsed, err := syntax.Parse(string(p), syntax.Perl)
		if err != nil {
			return err
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			return err
		}
		if length*len(program.Inst) > maxRegexSteps {
			return fmt.Errorf("matching %d bytes against a pattern of %d instructions takes too long", length, len(program.Inst))
		}
		return nil
	}
}

func stringLen(t *ast.Term) int {
	s, _ := t.Value.(ast.String)
	return len(s)
}

// guardedBuiltins are the functions behind the names that guardCalls writes.
func guardedBuiltins() map[string]*topdown.Builtin {
	table := make(map[string]*topdown.Builtin, len(guards))
	for name, guard := range guards {
		decl := *ast.BuiltinMap[name]
		decl.Name = guardPrefix + name
		call := topdown.GetBuiltin(name)
		table[decl.Name] = &topdown.Builtin{
			Decl: &decl,
			Func: func(bctx topdown.BuiltinContext, args []*ast.Term, yield func(*ast.Term) error) error {
				if err := guard(args); err != nil {
					return &topdown.Error{Code: topdown.BuiltinErr, Message: name + ": " + err.Error(), Location: bctx.Location}
				}
				return call(bctx, args, yield)
			},
		}
	}
	return table
}

// guardCalls makes a parsed module call our guarded versions. OPA's own cannot be replaced one by one for one engine.
func guardCalls(m *ast.Module) {
	guard := func(operator *ast.Term) {
		if ref, ok := operator.Value.(ast.Ref); ok {
			if name := ref.String(); guards[name] != nil {
				operator.Value = guardRef(name)
			}
		}
	}
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			if terms, ok := x.Terms.([]*ast.Term); ok {
				guard(terms[0])
			}
			for _, w := range x.With {
				guard(w.Target)
				guard(w.Value)
			}
		case ast.Call:
			guard(x[0])
		}
		return false
	}).Walk(m)
}

func guardRef(name string) ast.Ref {
	parts := strings.Split(guardPrefix+name, ".")
	ref := ast.Ref{ast.VarTerm(parts[0])}
	for _, p := range parts[1:] {
		ref = append(ref, ast.StringTerm(p))
	}
	return ref
}

// capabilities restricts compilation to names, each of which must be allowed here.
func capabilities(names []string) (*ast.Capabilities, error) {
	c := ast.CapabilitiesForThisVersion()
	c.AllowNet = []string{} // none; nil would be all
	c.Features = regoFeatures
	c.Builtins = nil
	for _, name := range names {
		decl, known := ast.BuiltinMap[name]
		if !known || !slices.Contains(allowed, name) {
			return nil, fmt.Errorf("the built-in function %s is not available here", name)
		}
		c.Builtins = append(c.Builtins, decl)
	}
	for _, b := range guardedBuiltins() {
		if slices.Contains(names, strings.TrimPrefix(b.Decl.Name, guardPrefix)) {
			c.Builtins = append(c.Builtins, b.Decl)
		}
	}
	return c, nil
}
