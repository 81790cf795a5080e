// SPDX-License-Identifier: Apache-2.0

package policy

// secretPatterns is the files that hold a credential. What only looks like one is taken out again by
// secretLookalikePatterns.
func secretPatterns() []string {
	return []string{
		// SSH and GnuPG private keys.
		".ssh/id_*", ".ssh/identity", ".ssh/*.pem", ".ssh/*.key", "/etc/ssh/ssh_host_*_key",
		".gnupg/private-keys-v1.d/*.key", ".gnupg/secring.gpg", ".password-store/**/*.gpg",
		"*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk", "*.kdbx", "/etc/ssl/private/**",
		".config/sops/age/keys.txt",
		// Clouds.
		".aws/credentials", ".aws/sso/cache/*.json", ".aws/cli/cache/*.json",
		".config/gcloud/credentials.db", ".config/gcloud/access_tokens.db",
		".config/gcloud/application_default_credentials.json", ".config/gcloud/legacy_credentials/**/adc.json",
		".azure/accessTokens.json", ".azure/msal_token_cache.json", ".azure/msal_token_cache.bin",
		".azure/service_principal_entries.json", ".oci/*.pem", ".config/doctl/config.yaml",
		".boto", ".s3cfg", ".config/rclone/rclone.conf", ".databrickscfg", ".kaggle/kaggle.json",
		".cache/huggingface/token", ".huggingface/token", ".fly/config.yml", ".config/stripe/config.toml",
		".local/share/com.vercel.cli/auth.json", ".config/configstore/firebase-tools.json",
		// Clusters, containers, vaults, infrastructure.
		".kube/config", "/etc/kubernetes/*.conf", "/etc/rancher/k3s/k3s.yaml",
		"secrets/kubernetes.io/serviceaccount/**/token", "secrets/eks.amazonaws.com/serviceaccount/**/token",
		"secrets/azure/tokens/**/azure-identity-token", "/run/secrets/**", "/var/run/secrets/**",
		".docker/config.json", ".config/containers/auth.json", "/run/user/*/containers/auth.json",
		".vault-token", ".terraform.d/credentials.tfrc.json", ".terraformrc", "*.tfstate",
		// Code hosts, package registries, databases.
		".netrc", "_netrc", ".git-credentials", ".config/git/credentials", ".config/gh/hosts.yml",
		".config/hub", ".config/glab-cli/config.yml",
		".npmrc", ".pypirc", ".yarnrc.yml", ".gem/credentials", ".cargo/credentials", ".cargo/credentials.toml",
		".composer/auth.json", ".config/composer/auth.json", ".m2/settings.xml", ".gradle/gradle.properties",
		".nuget/NuGet/NuGet.Config", ".pgpass", ".my.cnf", ".mylogin.cnf", ".htpasswd",
		// A project's own.
		".env", ".env.*", ".envrc", ".dev.vars", "secrets.yml", "secrets.yaml", "credentials.json",
		"service-account.json", "service_account.json", "wp-config.php", "config/master.key",
		// The system's.
		"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/krb5.keytab",
		// Agents'.
		".codex/auth.json", ".claude/.credentials.json", ".gemini/oauth_creds.json", ".gemini/.env",
		".local/share/opencode/auth.json", ".config/github-copilot/hosts.json", ".config/github-copilot/apps.json",
		".config/Cursor/User/globalStorage/state.vscdb", ".aider.conf.yml",
		// Browsers and wallets.
		".mozilla/firefox/*/logins.json", ".mozilla/firefox/*/key4.db", ".mozilla/firefox/*/cookies.sqlite",
		".config/google-chrome/**/Login Data", ".config/google-chrome/**/Cookies",
		".config/chromium/**/Login Data", ".config/chromium/**/Cookies", "wallet.dat", ".ethereum/keystore/*",
	}
}

// secretLookalikePatterns is the files that match a built-in pattern and hold no credential:
// certificates, public halves, templates, what packages and their tests ship.
func secretLookalikePatterns() []string {
	return []string{
		"*.pub", ".env.example", ".env.sample", ".env.template", ".env.dist", ".env.defaults", ".env.*.example",
		".env.schema", ".env.d.ts", ".env.ts", ".env.js", ".env.py",
		// Certificates and their authorities are public, and every TLS client reads them.
		"/etc/ssl/certs/**", "/etc/ssl/cert.pem", "/etc/pki/**/*.pem", "/usr/**", "/nix/store/**", "/snap/**",
		"/lib/**", "/lib64/**", "/proc/**", "/sys/**",
		"ca.pem", "cacert.pem", "cert.pem", "certs.pem", "chain.pem", "fullchain.pem", "roots.pem",
		"*cert.pem", "*-ca.pem", "*_ca.pem", "*-chain.pem", "*bundle*.pem", "*public*.pem", "*pubkey*.pem", "*pub.pem",
		"dhparam*.pem", "*csr.pem", "*crt.pem",
		"serviceaccount/**/ca.crt", "serviceaccount/**/namespace",
		// What packages ship for their tests and examples.
		"node_modules/**", "site-packages/**", "dist-packages/**", "pkg/mod/**", ".cargo/registry/**",
		"testdata/**", "fixtures/**", "__fixtures__/**",
		// "Keynote" documents, translations and locks that end in .key.
		"locales/**/*.key",
	}
}

// configPatterns is what decides how an agent or a login behaves next time: the agents' own
// configuration and instructions, and the places from which programs are started again.
func configPatterns() []string {
	return []string{
		// Agents: settings, instructions, hooks, tool servers.
		"AGENTS.md", "AGENTS.override.md", "CLAUDE.md", "CLAUDE.local.md", "GEMINI.md", ".mcp.json", ".cursorrules",
		".cursor/mcp.json", ".cursor/rules/**/*.mdc", ".github/copilot-instructions.md", ".windsurfrules",
		".codex/config.toml", ".codex/hooks.json", ".codex/**/*.rules", ".codex/prompts/**/*.md",
		".codex/skills/**/SKILL.md", ".agents/skills/**/SKILL.md", "/etc/codex/**",
		".claude/settings*.json", ".claude.json", ".claude/hooks/*", ".claude/commands/**/*.md",
		".claude/agents/**/*.md", ".claude/skills/**/SKILL.md", "/etc/claude-code/**",
		".gemini/settings.json", ".gemini/commands/**/*.toml", ".gemini/policies/**/*.toml",
		"opencode.json", "opencode.jsonc", ".config/opencode/**/*.json",
		// Places from which something is started later.
		".bashrc", ".bash_profile", ".bash_login", ".profile", ".zshrc", ".zshenv", ".zprofile",
		".config/fish/config.fish", "/etc/profile", "/etc/profile.d/**", "/etc/bash.bashrc", "/etc/environment",
		"/etc/crontab", "/etc/cron.*/**", "/var/spool/cron/**", "/etc/systemd/system/**", "/etc/init.d/**",
		".config/systemd/user/**/*.service", ".config/systemd/user/**/*.timer", ".config/autostart/*.desktop",
		".ssh/authorized_keys", ".ssh/authorized_keys2", ".ssh/config", "/etc/ssh/sshd_config", "/etc/sudoers",
		"/etc/sudoers.d/**", "/etc/pam.d/**", "/etc/ld.so.preload", "/etc/passwd-", ".git/hooks/*", ".git/config",
		".gitconfig", ".config/git/config", ".husky/*", ".pre-commit-config.yaml", ".vscode/tasks.json",
		".vscode/settings.json", "pip.conf", ".config/pip/pip.conf",
	}
}

// configLookalikePatterns is the files that match a built-in pattern of configuration and configure
// nothing: the examples that git puts into every clone.
func configLookalikePatterns() []string { return []string{".git/hooks/*.sample"} }

// procPatterns is the kernel's own file systems.
func procPatterns() []string { return []string{"/proc/**", "/sys/**"} }

// tmpPatterns is where everybody may write and nothing is kept.
func tmpPatterns() []string { return []string{"/tmp/**", "/var/tmp/**", "/dev/shm/**", "/run/user/**"} }

// systemPatterns is what packages and the boot put there.
func systemPatterns() []string {
	return []string{
		"/usr/**", "/bin/**", "/sbin/**", "/lib/**", "/lib32/**", "/lib64/**", "/libx32/**", "/etc/**", "/opt/**",
		"/boot/**", "/nix/store/**", "/snap/**", "/var/lib/**", "/var/cache/**", "/var/log/**", "/run/systemd/**",
		"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts/**",
	}
}

// sourcePatterns is the text that people and agents write: code, its build files, its documentation.
func sourcePatterns() []string {
	return []string{
		"*.go", "*.c", "*.h", "*.cc", "*.cpp", "*.cxx", "*.hpp", "*.hh", "*.rs", "*.py", "*.pyi", "*.js", "*.mjs",
		"*.cjs", "*.jsx", "*.ts", "*.tsx", "*.mts", "*.java", "*.kt", "*.kts", "*.scala", "*.rb", "*.php", "*.cs",
		"*.swift", "*.m", "*.mm", "*.lua", "*.pl", "*.pm", "*.ex", "*.exs", "*.erl", "*.hs", "*.ml", "*.zig", "*.s",
		"*.S", "*.sh", "*.bash", "*.zsh", "*.fish", "*.sql", "*.proto", "*.html", "*.css", "*.scss", "*.vue",
		"*.svelte", "*.md", "*.rst", "*.tf", "*.gradle", "*.cmake", "*.mk", "*.bzl", "*.bazel", "*.nix", "*.toml",
		"Makefile", "GNUmakefile", "Dockerfile", "Containerfile", "CMakeLists.txt", "BUILD", "WORKSPACE",
		"go.mod", "go.sum", "package.json", "Gemfile", "Rakefile", "Justfile", "justfile",
	}
}
