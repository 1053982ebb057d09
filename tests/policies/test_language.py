"""Languages by script and small words; what is not clear is unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.language import _ASCII, _ASCII_WORD, _WORD, language

SAID = {
    "en": "You can change the password in the settings, and it will be sent to your address.",
    "de": "Das Passwort ist in den Einstellungen, und es wird nicht per E-Mail an die Adresse geschickt.",
    "fr": "Vous pouvez changer le mot de passe dans les paramètres de votre compte, il est envoyé par courriel.",
    "es": "Puede cambiar la contraseña en los ajustes de su cuenta, y el enlace se envía por correo a las personas.",
    "it": "La password si cambia nelle impostazioni, e il collegamento è inviato per posta, non per messaggio.",
    "pt": "Você pode mudar a senha nas configurações, e o link é enviado por e-mail para os amigos, não para todos.",
    "nl": "Je kunt het wachtwoord in de instellingen wijzigen, en dat is niet moeilijk voor een van de gebruikers.",
    "pl": "Hasło można zmienić w ustawieniach, ale nie jest to konieczne, bo link do strony przychodzi na adres.",
    "tr": "Bu ayarlar için bir bağlantı gönderilir ve bu çok daha kolay bir yol olarak var.",
    "ru": "Пароль можно изменить в настройках, ссылка придёт по почте.",
    "uk": "Пароль можна змінити в налаштуваннях, посилання надійде поштою.",
    "zh": "您可以在设置中更改密码，链接会发送到您的邮箱。",
    "ja": "パスワードは設定で変更できます。リンクはメールで送信されます。",
    "ko": "설정에서 비밀번호를 변경할 수 있습니다.",
    "ar": "يمكنك تغيير كلمة المرور في الإعدادات، وسيصل الرابط بالبريد.",
    "fa": "می‌توانید گذرواژه را در تنظیمات تغییر دهید و پیوند پچ می‌شود.",
    "el": "Μπορείτε να αλλάξετε τον κωδικό στις ρυθμίσεις.",
    "he": "ניתן לשנות את הסיסמה בהגדרות החשבון שלך.",
    "hi": "आप सेटिंग्स में पासवर्ड बदल सकते हैं।",
    "th": "คุณสามารถเปลี่ยนรหัสผ่านได้ในการตั้งค่า",
}


@pytest.mark.parametrize("code", SAID)
def test_a_sentence_is_known(code: str) -> None:
    assert language(SAID[code]) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        "OK",
        "Berlin, Paris, Madrid, Roma, London, Amsterdam",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "```python\nfor the in and_of_to: is_that(it)\n```",
        "https://example.com/the/and/of/to/is",
        "Das ist the and und of der to",
    ],
)
def test_what_is_not_clear_is_unknown(text: str) -> None:
    assert language(text) is None


def test_code_does_not_hide_the_language_around_it() -> None:
    assert language(f"{SAID['de']}\n```python\nif the and of to is that it for you:\n    pass\n```") == "de"


def test_foreign_names_do_not_change_the_language() -> None:
    assert language(f"{SAID['zh']} PostgreSQL, SQLite") == "zh"


@given(st.text(max_size=400))
def test_any_text_has_a_language_or_none(text: str) -> None:
    assert language(text) is None or len(str(language(text))) == 2


@given(st.text(st.characters(max_codepoint=127)) | st.text("aB' 1_-"))
def test_words_of_ascii_are_the_same_as_any(text: str) -> None:
    assert _ASCII_WORD.findall(text.lower()) == _WORD.findall(text.lower())
    text = text.replace("'", "")
    assert text.translate(_ASCII).split() == _WORD.findall(text.lower())
