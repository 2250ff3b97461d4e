import subprocess
import sys

import aisandbox_api


def test_public_names_can_be_imported_and_are_sorted() -> None:
    assert aisandbox_api.__all__ == sorted(aisandbox_api.__all__)
    for name in aisandbox_api.__all__:
        assert getattr(aisandbox_api, name).__name__ == name


def test_import_of_the_package_and_of_its_settings_needs_no_grpc() -> None:
    code = (
        "import sys, aisandbox_api\n"
        "aisandbox_api.Settings\n"
        "print([name for name in ('grpc', 'torch', 'gymnasium', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n", result.stderr


def test_service_needs_no_torch() -> None:
    code = "import sys, aisandbox_api\naisandbox_api.create_server\nprint('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout == "False\n", result.stderr
